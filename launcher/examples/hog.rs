//! Keeps CPUs and memory busy, as a guest would: `hog MIB THREADS [born] [relay] [mlock] [pin]`.
//!
//! Touches the memory, then THREADS threads run through it for ever. `born`: a thread that ends at once, and one that
//! stays, are made every 20 ms, up to 60. `relay`: for ever, a thread makes another after 20 ms and ends, so that a
//! binding that misses one of them misses all that follow. `mlock`: the memory is locked. `pin`: two thirds of it are
//! registered with io_uring, so that the kernel cannot move them. Prints `ready` when the memory is there, and each
//! second the longest time that a thread stood still, in ms. The guest of `tests/vm/balance` and `tests/vm/beside`.

use std::error::Error;
use std::ffi::{c_long, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = || args.next().unwrap_or_default().parse::<usize>();
    let (mib, threads) = (number()?, number()?);
    let words: Vec<String> = args.collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let memory =
        Memory { start: vec![0_u8; mib << 20].leak().as_mut_ptr() as usize, bytes: mib << 20 };
    (0..memory.bytes).step_by(4096).for_each(|page| memory.write(page));
    if has("mlock") {
        // SAFETY: the memory is there for as long as the program.
        let result = unsafe { libc::mlock(memory.start as *const c_void, memory.bytes) };
        if result != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
    }
    if has("pin") {
        pin(memory)?;
    }
    let stall = Arc::new(AtomicU64::new(0));
    for first in 0..threads {
        let stall = Arc::clone(&stall);
        std::thread::spawn(move || walk(memory, first * 4096, &stall));
    }
    if has("relay") {
        std::thread::spawn(relay);
    }
    println!("ready");
    let mut born = 0;
    for tick in 0_u64.. {
        std::thread::sleep(Duration::from_millis(20));
        if has("born") && born < 60 {
            born += 1;
            std::thread::spawn(|| {
                std::thread::spawn(|| ());
                std::thread::sleep(Duration::from_secs(3_600));
            });
        }
        if tick % 50 == 49 {
            println!("stall {} ms", stall.swap(0, Ordering::Relaxed) / 1_000_000);
        }
    }
    Ok(())
}

/// Memory that is there for as long as the program.
#[derive(Clone, Copy)]
struct Memory {
    start: usize,
    bytes: usize,
}

impl Memory {
    fn write(self, at: usize) {
        assert!(at < self.bytes);
        // SAFETY: the byte is in memory that is never given back, and all threads write it by this.
        let byte = unsafe { AtomicU8::from_ptr((self.start + at) as *mut u8) };
        byte.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs through memory, a page at a time, and notes the longest step.
fn walk(memory: Memory, first: usize, stall: &AtomicU64) {
    let mut before = Instant::now();
    loop {
        for page in (first..memory.bytes).step_by(4096) {
            memory.write(page);
            let now = Instant::now();
            let ns = u64::try_from(now.duration_since(before).as_nanos()).unwrap_or(u64::MAX);
            stall.fetch_max(ns, Ordering::Relaxed);
            before = now;
        }
    }
}

/// Makes its successor and ends.
fn relay() {
    std::thread::sleep(Duration::from_millis(20));
    std::thread::spawn(relay);
}

/// Registers the last two thirds of the memory as a buffer of io_uring.
fn pin(memory: Memory) -> Result<(), Box<dyn Error>> {
    const REGISTER_BUFFERS: c_long = 0;
    // Source: linux/io_uring.h, struct io_uring_params: 120 bytes that are all zero by default.
    let mut params = [0_u64; 15];
    // SAFETY: the kernel writes to a buffer of the size of its struct.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if ring < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let tail = memory.bytes / 3;
    let buffer = libc::iovec {
        iov_base: (memory.start + tail) as *mut c_void,
        iov_len: memory.bytes - tail,
    };
    // SAFETY: the kernel reads one iovec, of memory that is there for as long as the program; nothing is read into it.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_BUFFERS, &raw const buffer, 1)
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
