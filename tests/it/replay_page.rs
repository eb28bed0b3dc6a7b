//! The page of `placer replay --html`: whole by itself, escaped, and, where Chromium is there, drawn
//! without a complaint, a request, or a text that leaves its chart or lies on another.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;
use needs::needs;
use testkit::chromium;

use std::path::Path;

use chromium::Chromium;
use serde_json::Value;

use common::{json, placer, run, text};

/// Writes a page, and returns it and the figures that were printed beside it.
fn page(path: &Path, more: &[&str]) -> (String, Value) {
    let mut command = placer();
    command.args(["replay", "--json", "--times=no", "--host", "8x8x32G", "--guests", "400"]);
    let output = run(command.args(more).arg("--html").arg(path));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    (std::fs::read_to_string(path).expect("a page"), json(&output))
}

#[test]
fn a_page_says_the_figures_of_the_json_and_needs_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (page, figures) = page(&dir.path().join("report.html"), &["--load", "0.8"]);
    for needs in ["http:", "https:", "url(", "<script", "<link", "<img", "@import", "src="] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(needs), "{needs}");
    }
    assert!(page.len() < 1 << 20);
    let rows: Vec<&str> = page.split("<tr><td>").skip(1).collect();
    let rules = figures["rules"].as_array().expect("rules");
    assert_eq!((rows.len(), rules.len()), (16, 16));
    for (row, rule) in rows.iter().zip(rules) {
        let claims = if rule["claims"] == true { " +claims" } else { "" };
        let slow = &rule["slowdown"];
        let wanted = [
            format!("{}{claims}", rule["rule"].as_str().expect("a name")),
            rule["arrivals"].to_string(),
            format!("{:.2}", rule["distance"].as_f64().expect("a number")),
            format!("{:.3}", slow["mean"].as_f64().expect("a number")),
            format!("{:.3}", slow["p99"].as_f64().expect("a number")),
        ];
        let cells: Vec<&str> = row.split("</td>").map(|c| c.trim_start_matches("<td>")).collect();
        let told = [cells[0], cells[1], cells[6], cells[9], cells[11]];
        assert_eq!(told, wanted.each_ref().map(String::as_str));
    }
}

#[test]
fn names_are_text_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let stream = dir.path().join("a'<script>alert(1)</script>&\u{1b}[31m\".csv");
    std::fs::create_dir_all(stream.parent().expect("a parent")).expect("made");
    std::fs::write(&stream, "arrival,departure,cpus,mib\n0,10,1,100\n").unwrap_or_else(|error| {
        panic!("{}: {error}", stream.display());
    });
    let path = dir.path().join("report.html");
    let output = run(placer()
        .args(["replay", "--host", "2x2x4G", "--rules", "best", "--html"])
        .arg(&path)
        .arg(&stream));
    let page = std::fs::read_to_string(&path).expect("a page");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;"), "{page}");
    for what in ["<script", "\u{1b}"] {
        assert!(!page.contains(what) && !text(&output.stdout).contains('\u{1b}'), "{what:?}");
    }
}

/// Asks each chart for texts that leave it or lie on another; what it finds becomes the title.
const LOOK: &str = "<script>\
addEventListener('securitypolicyviolation',e=>window.bad=(window.bad||'')+e.violatedDirective);\
addEventListener('error',e=>window.bad=(window.bad||'')+e.message);\
addEventListener('load',()=>{let found=[],count=0;\
for(const svg of document.querySelectorAll('svg')){const box=svg.getBoundingClientRect();\
const texts=[...svg.querySelectorAll('text')].map(t=>[t.textContent,t.getBoundingClientRect()]);\
count+=texts.length;\
for(const [i,[name,a]] of texts.entries()){\
if(a.left<box.left-1||a.right>box.right+1||a.top<box.top-1||a.bottom>box.bottom+1)found.push('out: '+name);\
for(const [other,b] of texts.slice(i+1))\
if(a.left<b.right-1&&b.left<a.right-1&&a.top<b.bottom-3&&b.top<a.bottom-3)found.push(name+' on '+other);}}\
const used=performance.getEntriesByType('resource').map(e=>e.name);\
document.title='LOOKED '+JSON.stringify({count,found,used,bad:window.bad||''});});</script>";

#[needs(chromium)]
#[test]
fn chromium_draws_the_page_as_it_is_meant() {
    let chromium = Chromium::find();
    let dir = tempfile::tempdir().expect("a directory");
    for (name, more) in [("all", &["--load", "0.9"][..]), ("one", &["--rules", "xen"])] {
        let path = dir.path().join(format!("{name}.html"));
        let (page, _) = page(&path, more);
        // The page itself lets no script run: for the look that is allowed.
        let page = page.replace("style-src", "script-src 'unsafe-inline'; style-src");
        std::fs::write(&path, page.replace("</body>", &format!("{LOOK}</body>"))).expect("written");
        let looked = look(&chromium, &path);
        assert!(looked["count"].as_u64() > Some(20), "{name}: {looked}");
        for what in ["found", "used"] {
            assert_eq!(looked[what].as_array().map(Vec::len), Some(0), "{name}: {looked}");
        }
        assert_eq!(looked["bad"], "", "{name}");
        // The look itself can see: a text that is moved lies on another.
        let moved =
            std::fs::read_to_string(&path).expect("a page").replacen("y=\"33.0\"", "y=\"17.0\"", 2);
        std::fs::write(&path, moved).expect("written");
        if name == "all" {
            let looked = look(&chromium, &path);
            assert_ne!(looked["found"].as_array().map(Vec::len), Some(0), "{looked}");
        }
    }
}

/// Loads a page and returns what the look has found.
fn look(chromium: &Chromium, path: &Path) -> Value {
    let seen = chromium.load(path, &["--window-size=1000,2600"]);
    assert_eq!(seen.asked, [].into());
    let found = seen.dom.split("LOOKED ").nth(1).and_then(|rest| rest.split("</title>").next());
    let found = found.unwrap_or_else(|| panic!("no look: {:.200} {}", seen.dom, seen.log));
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}"))
}
