//! A page around the picture: the same host with all its figures as tables, and details that show
//! where one points, or goes with the keyboard. No script, nothing from outside.

use std::fmt::Write;

use placer_engine::Bytes;

use super::panels::{there, who};
use super::{Marks, Picture, Short};
use crate::report::escape::markup;
use crate::report::view::{Node, View};

/// Nothing is loaded and nothing runs, whatever a name on the host may say.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;background:#fff;color:#1f2328;font:14px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
main{margin:0 auto}.picture{position:relative}.picture>svg{display:block;width:100%;height:auto}\
.spot{position:absolute;border-radius:8px}.spot:focus-visible{outline:3px solid #0757b8;outline-offset:1px}\
.tip{display:none;position:absolute;top:100%;z-index:1;width:max-content;max-width:340px;padding:8px 12px;\
background:#fff;border:1px solid #8796a5;border-radius:8px;box-shadow:0 4px 16px #0003}\
.spot:hover .tip,.spot:focus .tip{display:block}.r .tip{right:0}.l .tip{left:0}\
section{padding:0 24px 24px}h2{font-size:16px;margin:8px 0}.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid #d9dfe6;overflow-wrap:anywhere}\
thead th{color:#57606a;font-weight:400}th:first-child,.w{text-align:left}\
.tip th,.tip td{border:0;padding:1px 12px 1px 0}.tip th{font-weight:400;text-align:left;color:#57606a}\
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#eef3f8}.tip{background:#1a212a;border-color:#6a7784}\
thead th,.tip th{color:#9ba7b4}th,td{border-color:#353e48}.spot:focus-visible{outline-color:#58a6ff}}";

/// Returns the page of a host, with an advice marked in its picture.
pub fn page(view: &View, marks: Option<&Marks>) -> String {
    let picture = Picture::of(view, marks);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main style=\"max-width:{}px\">\n\
         <div class=\"picture\">\n{}\n",
        markup(&picture.title),
        Short(picture.w),
        picture.element("")
    );
    for (id, area) in &picture.nodes {
        let Some(node) = view.node(*id) else { continue };
        let part = |of: f64, all: f64| format!("{:.3}%", of / all * 100.0);
        let side = if area.x + area.w / 2.0 > picture.w / 2.0 { "r" } else { "l" };
        // Over the head of the card alone, so that the CPUs below tell their own.
        put(
            &mut page,
            format_args!(
                "<div class=\"spot {side}\" tabindex=\"0\" style=\"left:{};top:{};width:{};height:{}\">",
                part(area.x, picture.w),
                part(area.y, picture.h),
                part(area.w, picture.w),
                part(area.h.min(48.0), picture.h)
            ),
        );
        details(&mut page, node);
        page.push_str("</div>\n");
    }
    page.push_str("</div>\n");
    nodes(&mut page, view);
    caches(&mut page, view);
    guests(&mut page, view);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Writing to a string does not fail.
fn put(page: &mut String, piece: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(piece);
}

fn amount(amount: Option<Bytes>) -> String {
    amount.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string())
}

fn idle(node: &Node) -> String {
    node.idle.map_or_else(|| "?".to_owned(), |idle| format!("{idle:.2}"))
}

fn cpus(node: &Node) -> String {
    if node.cpus.is_empty() { "-".to_owned() } else { node.cpus.to_string() }
}

fn details(page: &mut String, node: &Node) {
    let memory = &node.memory;
    let devices: Vec<&str> = node.devices.iter().map(|device| device.label.as_str()).collect();
    let rows = [
        ("CPUs", cpus(node)),
        ("idle", idle(node)),
        ("memory", amount(memory.total)),
        ("free", amount(memory.free)),
        ("of that file cache", amount(memory.cached)),
        ("claimed", amount(memory.claimed)),
        ("left for one more guest", amount(memory.left)),
        ("devices", devices.join(", ")),
    ];
    put(page, format_args!("<div class=\"tip\" role=\"tooltip\"><b>Node {}</b><table>", node.id));
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        put(page, format_args!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", markup(value)));
    }
    page.push_str("</table></div>");
}

fn nodes(page: &mut String, view: &View) {
    page.push_str(
        "<section><h2>Nodes</h2><div class=\"wide\"><table id=\"nodes\"><thead><tr>\
         <th scope=\"col\">node</th><th scope=\"col\">idle</th><th scope=\"col\">CPUs</th>\
         <th scope=\"col\">free</th><th scope=\"col\">file cache</th><th scope=\"col\">memory</th>\
         <th scope=\"col\">claimed</th><th scope=\"col\" class=\"w\">list of CPUs</th></tr></thead><tbody>\n",
    );
    for node in &view.nodes {
        let memory = &node.memory;
        put(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td><td class=\"w\">{}</td></tr>\n",
                node.id,
                idle(node),
                node.cpus.len(),
                amount(memory.free),
                amount(memory.cached),
                amount(memory.total),
                amount(memory.claimed),
                cpus(node)
            ),
        );
    }
    page.push_str("</tbody></table></div></section>\n");
}

/// The caches of the nodes that have several.
fn caches(page: &mut String, view: &View) {
    if view.nodes_with_caches().next().is_none() {
        return;
    }
    page.push_str(
        "<section><h2>Caches</h2><div class=\"wide\"><table id=\"caches\"><thead><tr>\
         <th scope=\"col\">node</th><th scope=\"col\" class=\"w\">cache</th><th scope=\"col\">idle</th>\
         <th scope=\"col\">CPUs</th><th scope=\"col\" class=\"w\">claims</th>\
         <th scope=\"col\" class=\"w\">list of CPUs</th></tr></thead><tbody>\n",
    );
    for node in view.nodes_with_caches() {
        for domain in &node.domains {
            let name = domain.name();
            let name = if name.is_empty() { "not known" } else { &name };
            let idle = domain.idle.map_or_else(|| "?".to_owned(), |idle| format!("{idle:.2}"));
            put(
                page,
                format_args!(
                    "<tr><th scope=\"row\">{}</th><td class=\"w\">{name}</td><td>{idle}</td><td>{}</td>\
                     <td class=\"w\">{}</td><td class=\"w\">{}</td></tr>\n",
                    node.id,
                    domain.cpus.len(),
                    domain.claims(),
                    domain.cpus
                ),
            );
        }
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn guests(page: &mut String, view: &View) {
    let Some(guests) = view.guests.as_ref().filter(|guests| !guests.is_empty()) else { return };
    page.push_str(
        "<section><h2>Guests and holds</h2><div class=\"wide\"><table id=\"guests\"><thead><tr>\
         <th scope=\"col\">claim</th><th scope=\"col\" class=\"w\">who</th><th scope=\"col\">CPUs</th>\
         <th scope=\"col\">memory</th><th scope=\"col\">there</th><th scope=\"col\">nodes</th></tr></thead><tbody>\n",
    );
    for guest in guests {
        put(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"w\">{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td></tr>\n",
                guest.id,
                markup(&who(guest)),
                guest.cpus,
                guest.memory,
                there(guest),
                guest.nodes()
            ),
        );
    }
    page.push_str("</tbody></table></div></section>\n");
}
