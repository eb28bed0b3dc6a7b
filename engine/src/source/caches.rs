//! Reads which CPUs share their highest-level cache, and which CPUs are slow ones.
//!
//! One `shared_cpu_list` for each cache, found by its first CPU; which index holds the highest level is
//! found once and tried first for the others. Neither file is needed: what is missing or damaged is left
//! out, and the node counts as one cache.

use super::file;
use super::parts;
use super::paths::CPUS;
use super::root::SysRoot;
use crate::error::SourceError;
use crate::files::{CacheFiles, TextFile};
use crate::ids::CpuId;
use crate::idset::CpuSet;
use crate::parse;

/// Indexes of caches that a CPU has at most, counting instruction and data caches apart.
const MAX_INDEXES: u32 = 10;
/// Where the last level is on CPUs with two caches of level 1, one of level 2 and one of level 3.
const USUAL_LAST: u32 = 3;
/// CPUs without a shared cache that are looked at before the rest is taken to have none either.
const MAX_PRIVATE: u32 = 64;
/// From this level on a cache counts even if only one core has it.
const LAST_LEVEL: u8 = 3;
/// A file for each CPU is read only on hosts of at most this many: hybrid CPUs are those of small machines,
/// and newer kernels have the file on all others as well.
const MAX_HYBRID: u64 = 64;
/// Capacity of the fastest CPU, `SCHED_CAPACITY_SCALE`.
const FULL_CAPACITY: u32 = 1024;
/// Capacity of an Intel efficiency core, for which the kernel gives no figure.
const EFFICIENCY_CORE: u32 = 614;

/// Returns the highest-level caches that online CPUs share, each once.
///
/// Source: `cpu<N>/cache/index<M>/{level,shared_cpu_list,shared_cpu_map,size}`.
pub(super) fn shared(
    root: &SysRoot,
    online: &CpuSet,
    siblings: &[(CpuId, TextFile)],
) -> Result<Vec<CacheFiles>, SourceError> {
    let cores: Vec<CpuSet> =
        siblings.iter().filter_map(|(_, file)| parse::list::parse(&file.text).ok()).collect();
    let one_core = |cpus: &CpuSet| cpus.len() == 1 || cores.iter().any(|core| cpus.is_subset(core));
    let counts = |cache: &CacheFiles| cache.level >= LAST_LEVEL || !one_core(&cache.cpus);
    let mut caches = Vec::new();
    let mut seen = CpuSet::new();
    let mut likely: Option<(u32, u8)> = None;
    let mut private = 0;
    for cpu in CpuSet::iter(online) {
        if seen.contains(cpu) {
            continue;
        }
        let mut found = None;
        if let Some((index, level)) = likely {
            found = cache(root, online, cpu, index, level)?.filter(&counts);
        }
        if found.is_none()
            && let Some((index, cache)) = highest_shared(root, online, cpu, counts)?
        {
            likely = Some((index, cache.level));
            found = Some(cache);
        }
        match found {
            Some(found) => {
                seen = seen.union(&found.cpus);
                caches.push(found);
            }
            None => private += 1,
        }
        if private > MAX_PRIVATE {
            break;
        }
    }
    Ok(caches)
}

/// Finds the highest-level cache of a CPU that counts, with its index.
///
/// The kernel numbers caches from the lowest level up, and nearly all CPUs have the last one at index 3:
/// what lies above is looked for from there, what lies below only where that does not count.
fn highest_shared(
    root: &SysRoot,
    online: &CpuSet,
    cpu: CpuId,
    counts: impl Fn(&CacheFiles) -> bool,
) -> Result<Option<(u32, CacheFiles)>, SourceError> {
    let level = |index: u32| -> Result<Option<u8>, SourceError> {
        let text = file::read(&root.path(&format!("{CPUS}/cpu{cpu}/cache/index{index}/level")))?;
        Ok(text.and_then(|text| parts::number(&text)).and_then(|level| u8::try_from(level).ok()))
    };
    let mut top = USUAL_LAST;
    while top < MAX_INDEXES && level(top + 1)?.is_some() {
        top += 1;
    }
    for index in (0..=top).rev() {
        let Some(level) = level(index)? else { continue };
        let cache = cache(root, online, cpu, index, level)?;
        if let Some(cache) = cache.filter(&counts) {
            return Ok(Some((index, cache)));
        }
    }
    Ok(None)
}

/// Reads one cache of a CPU; `None` where its CPUs are not known.
fn cache(
    root: &SysRoot,
    online: &CpuSet,
    cpu: CpuId,
    index: u32,
    level: u8,
) -> Result<Option<CacheFiles>, SourceError> {
    let dir = format!("{CPUS}/cpu{cpu}/cache/index{index}");
    let cpus = match file::read(&root.path(&format!("{dir}/shared_cpu_list")))? {
        Some(text) => parse::list::parse(&text).ok(),
        None => match file::read(&root.path(&format!("{dir}/shared_cpu_map")))? {
            Some(text) => parse::mask::parse(&text).ok(),
            None => None,
        },
    };
    let cpus: Option<CpuSet> = cpus.map(|cpus: CpuSet| cpus.intersection(online));
    let Some(cpus) = cpus.filter(|cpus| cpus.contains(cpu)) else { return Ok(None) };
    let size = file::read(&root.path(&format!("{dir}/size")))?;
    let size = size.and_then(|text| parts::size(&text));
    Ok(Some(CacheFiles { cpu, level, size, cpus }))
}

/// Returns the CPUs that are slower than the fastest, with their capacity in 1/1024 of it; none on hosts of more
/// than [`MAX_HYBRID`] CPUs.
///
/// Source: `cpu<N>/cpu_capacity`; without it `/sys/devices/cpu_atom/cpus` and `/sys/devices/cpu_lowpower/cpus`
/// (Intel hybrid CPUs on kernels that give no figure, where a capacity of 0.6 is assumed).
pub(super) fn slow_cpus(root: &SysRoot, online: &CpuSet) -> Result<Vec<(CpuId, u32)>, SourceError> {
    if online.len() > MAX_HYBRID {
        return Ok(Vec::new());
    }
    let Some(capacities) = capacities(root, online)? else {
        return efficiency_cores(root, online);
    };
    let most = capacities.iter().map(|&(_, capacity)| capacity).max().unwrap_or(FULL_CAPACITY);
    let of_fastest = |capacity: u32| {
        let scaled = u64::from(capacity) * u64::from(FULL_CAPACITY) / u64::from(most);
        u32::try_from(scaled).unwrap_or(FULL_CAPACITY).max(1)
    };
    let slow = capacities.into_iter().filter(|&(_, capacity)| capacity < most);
    Ok(slow.map(|(cpu, capacity)| (cpu, of_fastest(capacity))).collect())
}

/// Reads the capacity of each CPU; `None` where one has none.
fn capacities(root: &SysRoot, online: &CpuSet) -> Result<Option<Vec<(CpuId, u32)>>, SourceError> {
    let mut capacities = Vec::new();
    for cpu in CpuSet::iter(online) {
        let text = file::read(&root.path(&format!("{CPUS}/cpu{cpu}/cpu_capacity")))?;
        let capacity = text.and_then(|text| parts::number(&text));
        let capacity = capacity.and_then(|number| u32::try_from(number).ok());
        let Some(capacity) = capacity.filter(|&capacity| capacity > 0) else { return Ok(None) };
        capacities.push((cpu, capacity));
    }
    Ok(Some(capacities))
}

/// Reads which CPUs of an Intel hybrid CPU are efficiency cores. A host of such cores alone has none that are
/// slower than others.
fn efficiency_cores(root: &SysRoot, online: &CpuSet) -> Result<Vec<(CpuId, u32)>, SourceError> {
    let kind = |kind: &str| -> Result<Option<CpuSet>, SourceError> {
        let text = file::read(&root.path(&format!("sys/devices/{kind}/cpus")))?;
        Ok(text.and_then(|text| parse::list::parse(&text).ok()))
    };
    let Some(mut slow) = kind("cpu_atom")? else { return Ok(Vec::new()) };
    if let Some(slower) = kind("cpu_lowpower")? {
        slow = slow.union(&slower);
    }
    let slow = slow.intersection(online);
    let all = online.is_subset(&slow);
    Ok(slow.iter().filter(|_| !all).map(|cpu| (cpu, EFFICIENCY_CORE)).collect())
}
