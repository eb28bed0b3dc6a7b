//! Colours and fonts, light and dark.
//!
//! Classes with plain colours and no variables: viewers that are no browsers understand no more.

/// What a picture's classes look like. One letter for what stands there a thousand times.
pub(super) const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans','Liberation Sans',sans-serif;\
font-variant-numeric:tabular-nums}\
.b{font-weight:700}.c{text-anchor:middle}.e{text-anchor:end}\
.bg{fill:#fff}.gr{fill:#f6f8fa;stroke:#d0d7de}.cd{fill:#fff;stroke:#c3ccd6}.dm{fill:none;stroke:#d9dfe6}\
.t{fill:#1f2328}.m{fill:#57606a}.i{fill:#fff}.k{fill:#1f2328}\
.wn{fill:#fff8e0;stroke:#d9b44a}.wt{fill:#6b4700}\
.ad{fill:none;stroke:#0757b8;stroke-width:3}.at{fill:#0757b8}.ap{fill:#0757b8}.ru{fill:none;stroke:#57606a;stroke-dasharray:3 2}\
.mu{fill:#66788a}.mf{fill:#b9c6d3}.mn{fill:#edf1f5}.hb{fill:#fff0c2}.hs{fill:#b97f00}.mo{fill:none;stroke:#8796a5}\
.u{fill:#f1f3f5;stroke:#aab4be;stroke-dasharray:2 2}\
.l0{fill:#e6eff8}.l1{fill:#bcd8f1}.l2{fill:#83b7e5}.l3{fill:#2c71b5}.l4{fill:#123f73}.lg{fill:#e8791d}\
.d0{fill:#f4f0fb}.d1{fill:#dfd1f3}.d2{fill:#c5ace9}.d3{fill:#aa8bdf}.d4{fill:#6d43b1}.d5{fill:#43257d}\
.cp{fill:#eef2f6;stroke:#c3ccd6}.ln{fill:#d9dfe6}.ow{fill:none;stroke:#b97f00;stroke-width:2}\
@media (prefers-color-scheme:dark){\
.bg{fill:#0d1117}.gr{fill:#141a22;stroke:#343c46}.cd{fill:#1a212a;stroke:#3d4650}.dm{stroke:#353e48}\
.t{fill:#eef3f8}.m{fill:#9ba7b4}.i{fill:#0d1117}.k{fill:#eef3f8}\
.wn{fill:#2a2210;stroke:#8a6a1c}.wt{fill:#e9c46a}\
.ad{stroke:#58a6ff}.at{fill:#7cbcff}.ap{fill:#58a6ff}.ru{stroke:#9ba7b4}\
.mu{fill:#8b9aa9}.mf{fill:#4d5b69}.mn{fill:#272f38}.hb{fill:#3b3013}.hs{fill:#e3b341}.mo{stroke:#6a7784}\
.u{fill:#20272f;stroke:#5a6672}\
.l0{fill:#1d2c3c}.l1{fill:#21486b}.l2{fill:#2a659d}.l3{fill:#62a3e2}.l4{fill:#b3d8ff}.lg{fill:#ff9d4d}\
.d0{fill:#221c33}.d1{fill:#352b56}.d2{fill:#4d3e82}.d3{fill:#6d55b3}.d4{fill:#aa93e2}.d5{fill:#d6c8f8}\
.cp{fill:#222a33;stroke:#3d4650}.ln{fill:#353e48}.ow{stroke:#e3b341}}";

/// Claimed memory is hatched, so that it shows without colour as well.
pub(super) const PATTERNS: &str = "<defs><pattern id=\"hatch\" width=\"5\" height=\"5\" \
patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect class=\"hb\" width=\"5\" height=\"5\"/>\
<rect class=\"hs\" width=\"2\" height=\"5\"/></pattern></defs>";

/// Returns the class of a load, and of what is written on it.
pub(super) fn load(busy: f64) -> (&'static str, &'static str) {
    match busy {
        busy if busy < 0.05 => ("l0", "k"),
        busy if busy < 0.30 => ("l1", "k"),
        busy if busy < 0.60 => ("l2", "k"),
        busy if busy < 0.90 => ("l3", "i"),
        _ => ("l4", "i"),
    }
}

/// Returns the class of a distance, and of what is written on it, by its place among all that
/// there are, nearest first.
pub(super) fn distance(rank: usize, kinds: usize) -> (&'static str, &'static str) {
    const SHADES: [(&str, &str); 6] =
        [("d0", "k"), ("d1", "k"), ("d2", "k"), ("d3", "k"), ("d4", "i"), ("d5", "i")];
    let last = SHADES.len() - 1;
    let at = if kinds <= 1 { 0 } else { (rank * last + (kinds - 1) / 2) / (kinds - 1) };
    SHADES[at.min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_lightest_and_the_farthest_darkest() {
        assert_eq!(distance(0, 1).0, "d0");
        assert_eq!((distance(0, 2).0, distance(1, 2).0), ("d0", "d5"));
        assert_eq!((distance(1, 3).0, distance(9, 10).0), ("d3", "d5"));
    }

    #[test]
    fn dark_says_as_much_as_light() {
        let (light, dark) = STYLE.split_once("@media").expect("both");
        for class in dark.split('}').filter_map(|rule| rule.rsplit_once('.')?.1.split('{').next()) {
            assert!(light.contains(&format!(".{class}{{")), "{class}");
        }
    }
}
