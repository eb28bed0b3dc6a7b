//! Reads the files of a Sample and does nothing with them: what a Sample is compared with.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The files of one Sample, kept open, with the number of `pread` calls that each takes.
pub struct PlainReader {
    stat: (File, usize),
    meminfo: Vec<(File, usize)>,
    /// A recorded machine's instant is a file too, opened each time.
    clock: Option<PathBuf>,
    stat_buf: Vec<u8>,
    buf: Vec<u8>,
}

impl PlainReader {
    /// Opens the files of a machine below `root`, and finds out how they are read.
    pub fn open(root: &Path) -> Self {
        let nodes = root.join("sys/devices/system/node");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(nodes)
            .expect("a machine with nodes")
            .filter_map(|entry| Some(entry.ok()?.path().join("meminfo")))
            .filter(|path| path.is_file())
            .collect();
        paths.sort();
        // Of a host of one node a sample has the figures of the whole host too.
        if paths.len() == 1 {
            paths.extend(Some(root.join("proc/meminfo")).filter(|path| path.is_file()));
        }
        let open = |path: &Path| File::open(path).expect("a file that was just listed");
        let mut buf = vec![0; 4096];
        let mut meminfo: Vec<_> = paths.iter().map(|path| (open(path), 0)).collect();
        // Twice: buffers grow in the first round, calls are counted in the second.
        for _ in 0..2 {
            for (file, calls) in &mut meminfo {
                *calls = calls_of(file, &mut buf, |_| false);
            }
        }
        let stat = open(&root.join("proc/stat"));
        let mut stat_buf = vec![0; 4096];
        calls_of(&stat, &mut stat_buf, past_the_cpus);
        let calls = calls_of(&stat, &mut stat_buf, past_the_cpus);
        let clock = (root != Path::new("/")).then(|| root.join("clock"));
        Self { stat: (stat, calls), meminfo, clock, stat_buf, buf }
    }

    /// Returns how many files are read.
    pub fn files(&self) -> usize {
        1 + self.meminfo.len() + usize::from(self.clock.is_some())
    }

    /// Reads everything once. Returns the number of bytes.
    pub fn read(&mut self) -> usize {
        let mut bytes = 0;
        if let Some(path) = &self.clock
            && let Ok(file) = File::open(path)
        {
            bytes += take(&file, 2, &mut self.buf);
        }
        bytes += take(&self.stat.0, self.stat.1, &mut self.stat_buf);
        for (file, calls) in &self.meminfo {
            bytes += take(file, *calls, &mut self.buf);
        }
        bytes
    }
}

fn take(file: &File, calls: usize, buf: &mut [u8]) -> usize {
    let mut filled = 0;
    for _ in 0..calls {
        let offset = u64::try_from(filled).expect("a file in memory");
        filled += file.read_at(&mut buf[filled..], offset).expect("a file that can be read");
    }
    filled
}

/// Reads a file as the engine does, and counts the calls.
fn calls_of(file: &File, buf: &mut Vec<u8>, enough: impl Fn(&[u8]) -> bool) -> usize {
    let mut filled = 0;
    for calls in 1.. {
        if filled == buf.len() {
            buf.resize(2 * filled, 0);
        }
        let offset = u64::try_from(filled).expect("a file in memory");
        let n = file.read_at(&mut buf[filled..], offset).expect("a file that can be read");
        filled += n;
        if n == 0 || enough(&buf[..filled]) {
            return calls;
        }
    }
    unreachable!("a file has an end")
}

/// Returns whether the last whole line is behind those of the CPUs.
fn past_the_cpus(text: &[u8]) -> bool {
    let mut lines = text.rsplit(|&b| b == b'\n');
    lines.next();
    lines.next().is_some_and(|line| !line.starts_with(b"cpu"))
}
