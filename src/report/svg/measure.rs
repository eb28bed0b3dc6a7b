//! How wide a text is at most, whatever sans-serif font draws it.

use std::borrow::Cow;

/// Widths of the characters from the blank to the tilde, in thousandths of the font's size: of each
/// the wider one of DejaVu Sans (the widest of the common fonts) and of a font with Arial's metrics.
const REGULAR: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636,
    636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 556, 1015, 684, 686, 722, 770, 667,
    611, 778, 752, 295, 500, 667, 557, 863, 748, 787, 667, 787, 722, 667, 611, 732, 684, 989, 685,
    667, 685, 390, 337, 390, 838, 556, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579,
    278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

/// The same in bold.
const BOLD: [u16; 95] = [
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696,
    696, 696, 696, 696, 696, 696, 696, 400, 400, 838, 838, 838, 611, 1000, 774, 762, 734, 830, 683,
    683, 821, 837, 372, 556, 775, 637, 995, 837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771,
    724, 725, 457, 365, 457, 838, 556, 500, 675, 716, 593, 716, 678, 435, 716, 712, 343, 343, 665,
    343, 1042, 712, 687, 716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712, 365, 712, 838,
];

/// Of other characters: as wide as the widest letters of any script, and pictures.
const OTHER: u16 = 1250;

/// What rounding and hinting may add.
const SAFE: f64 = 1.03;

/// Returns how wide a text is at most.
pub(super) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let table = if bold { &BOLD } else { &REGULAR };
    let of = |character: char| {
        let at = u32::from(character).checked_sub(0x20).and_then(|at| usize::try_from(at).ok());
        f64::from(at.and_then(|at| table.get(at)).copied().unwrap_or(OTHER))
    };
    text.chars().map(of).sum::<f64>() * size * SAFE / 1000.0
}

/// Returns as much of a text as fits, with an ellipsis in place of the rest.
pub(super) fn fit(text: &str, size: f64, bold: bool, room: f64) -> Cow<'_, str> {
    if width(text, size, bold) <= room {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        if width(&kept, size, bold) + width("\u{2026}", size, bold) > room {
            kept.pop();
            break;
        }
    }
    // Where not even the ellipsis has room there is nothing to draw.
    if width("\u{2026}", size, bold) <= room {
        kept.truncate(kept.trim_end().len());
        kept.push('\u{2026}');
    } else {
        kept.clear();
    }
    Cow::Owned(kept)
}

/// Breaks a text at its blanks into lines that fit.
pub(super) fn lines(text: &str, size: f64, bold: bool, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size, bold) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| fit(line, size, bold, room).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        let room = width("12.5 GiB", 12.0, false);
        assert_eq!(fit("12.5 GiB", 12.0, false, room), "12.5 GiB");
        let cut = fit("12.5 GiB of 16.0 GiB", 12.0, false, room);
        assert!(cut.ends_with('\u{2026}') && width(&cut, 12.0, false) <= room, "{cut}");
        assert_eq!(fit("wide", 12.0, false, 3.0), "");
        assert_eq!(fit("机器机器", 10.0, true, 40.0), "机器\u{2026}");
    }

    #[test]
    fn lines_are_broken_at_blanks() {
        let room = width("aaa bbb", 10.0, false);
        assert_eq!(lines("aaa bbb ccc", 10.0, false, room), ["aaa bbb", "ccc"]);
    }
}
