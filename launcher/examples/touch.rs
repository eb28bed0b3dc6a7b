//! Takes memory page by page and says where it came from: `touch MIB [BEFORE] [AFTER]`.
//!
//! Before it and after it this waits: so many seconds, or until there is a file of that path.
//! One line: where the pages are (`N0=51200`), how they are bound, which CPUs and nodes are allowed.
//! The guest of `tests/vm/launch`; also a quick look at what a launcher has done:
//! `placer launch --cpus 1 --memory 200M -- touch 200`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mib = args.next().map_or(Ok(0), |text| text.parse::<u64>())?;
    let bytes = usize::try_from(mib << 20)?;
    wait(args.next())?;
    let mut memory = vec![0_u8; bytes];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    let start = memory.as_ptr() as usize;
    println!("{} {}", pages(start, start + bytes)?, allowed()?);
    wait(args.next())?;
    // So late that nobody could have left the writing out.
    assert!(memory.iter().step_by(4096).all(|&byte| byte == 1), "memory keeps what is written");
    Ok(())
}

fn wait(time: Option<String>) -> Result<(), Box<dyn Error>> {
    let Some(time) = time else { return Ok(()) };
    if time.starts_with('/') {
        while !Path::new(&time).exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
    } else {
        std::thread::sleep(Duration::from_secs(time.parse()?));
    }
    Ok(())
}

/// Says how many pages of a range of addresses each node holds, and under which policy.
fn pages(start: usize, end: usize) -> Result<String, Box<dyn Error>> {
    let maps = std::fs::read_to_string("/proc/self/numa_maps")?;
    let mut nodes: BTreeMap<String, u64> = BTreeMap::new();
    let mut policy = String::from("-");
    for line in maps.lines() {
        let mut words = line.split(' ');
        let at = usize::from_str_radix(words.next().unwrap_or_default(), 16)?;
        // A large vector begins some bytes after its mapping does.
        if at + 4096 < start || at >= end {
            continue;
        }
        policy = words.next().unwrap_or_default().to_owned();
        for (node, count) in words.filter_map(|word| word.strip_prefix('N')?.split_once('=')) {
            *nodes.entry(format!("N{node}")).or_default() += count.parse::<u64>()?;
        }
    }
    let nodes: Vec<String> = nodes.iter().map(|(node, count)| format!("{node}={count}")).collect();
    Ok(format!("{} policy={policy}", nodes.join(" ")))
}

fn allowed() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let cpus = value("Cpus_allowed_list:").unwrap_or_default();
    let nodes = value("Mems_allowed_list:").unwrap_or_default();
    Ok(format!("cpus={cpus} mems={nodes}"))
}
