//! What Slurm loads: the symbols of a SPANK plugin.

#![expect(unsafe_code, reason = "symbols for Slurm, and its pointers")]
#![allow(non_upper_case_globals, reason = "Slurm's names")]

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::slurm::{self, Handle, Live, SpankOption};
use crate::task::{self, Asked, Chosen};

#[unsafe(no_mangle)]
pub(crate) static plugin_name: [u8; 7] = *b"placer\0";
#[unsafe(no_mangle)]
pub(crate) static plugin_type: [u8; 6] = *b"spank\0";
/// The release of Slurm that the plugin is for: Slurm compares major and minor.
#[unsafe(no_mangle)]
pub(crate) static plugin_version: u32 = release(option_env!("PLACER_SLURM"));
#[unsafe(no_mangle)]
pub(crate) static spank_plugin_version: u32 = 1;

/// What slurmctld, slurmd and srun take: 0 works.
const DONE: c_int = 0;
/// The task does not start where plugstack.conf requires the plugin; where it is optional, Slurm goes on.
const FAILED: c_int = -1;

static OPTION: SpankOption = SpankOption {
    name: c"placer".as_ptr(),
    arginfo: c"[CPUS:MEM]".as_ptr(),
    usage: c"place each task on CPUs of its own with memory beside them, and claim both".as_ptr(),
    // An argument may be given.
    has_arg: 2,
    val: 0,
    callback: on_option,
};

/// What the user asked for; known in srun, and again in the process of each task.
static ASKED: Mutex<Option<Asked>> = Mutex::new(None);
/// What was chosen for the task of this process.
static CHOSEN: Mutex<Option<Chosen>> = Mutex::new(None);

/// Returns `24.11` as Slurm writes it: 0x180b00. 0, which no Slurm loads, where none is named.
const fn release(text: Option<&str>) -> u32 {
    let Some(text) = text else { return 0 };
    let (text, mut parts, mut part, mut at) = (text.as_bytes(), 0, 0, 0);
    while at < text.len() {
        let is_dot = text[at] == b'.';
        assert!(
            text[at].is_ascii_digit() && part < 100 || is_dot && parts == 0,
            "PLACER_SLURM: expected a release such as 24.11"
        );
        (parts, part) =
            if is_dot { (part, 0) } else { (parts, part * 10 + (text[at] - b'0') as u32) };
        at += 1;
    }
    assert!(
        parts > 0 && parts < 256 && part < 256,
        "PLACER_SLURM: expected a release such as 24.11"
    );
    parts << 16 | part << 8
}

/// Runs one of Slurm's calls. A panic is reported, and fails nothing.
fn call(work: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        slurm::say("a bug in placer-spank.so: the task is not placed");
        DONE
    })
}

fn asked() -> Option<Asked> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// # Safety
///
/// Slurm calls this: `argument` is null or a text.
unsafe extern "C" fn on_option(_value: c_int, argument: *const c_char, _remote: c_int) -> c_int {
    call(|| {
        // SAFETY: not null, so a text.
        let text = (!argument.is_null()).then(|| unsafe { CStr::from_ptr(argument) });
        match Asked::parse(text.map(CStr::to_string_lossy).as_deref()) {
            Ok(asked) => {
                *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
                DONE
            }
            Err(why) => {
                slurm::say(&format!("--placer: {why}"));
                FAILED
            }
        }
    })
}

/// Offers `--placer`. It never fails: a failure here would drain the host.
///
/// # Safety
///
/// Slurm calls this: `arguments` has `count` texts.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn slurm_spank_init(
    handle: Handle,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    call(|| {
        slurm::offer(handle, &OPTION);
        for at in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: `arguments` has `count` texts.
            let text = unsafe { CStr::from_ptr(*arguments.add(at)) }.to_string_lossy();
            if text == "all" {
                *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked::by_host());
            } else {
                slurm::say(&format!("plugstack.conf: expected all or nothing, found {text:?}"));
            }
        }
        DONE
    })
}

/// Chooses and claims the place of the task that this process becomes.
///
/// # Safety
///
/// Slurm calls this.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn slurm_spank_task_init_privileged(
    handle: Handle,
    _count: c_int,
    _arguments: *const *const c_char,
) -> c_int {
    call(|| {
        let Some(asked) = asked() else { return DONE };
        match task::choose(&Live::of(handle), &asked) {
            Ok(chosen) => {
                *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = chosen;
                DONE
            }
            Err(why) => {
                slurm::say(&why);
                asked.status()
            }
        }
    })
}

/// Binds the task.
///
/// # Safety
///
/// Slurm calls this.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn slurm_spank_task_init(
    _handle: Handle,
    _count: c_int,
    _arguments: *const *const c_char,
) -> c_int {
    call(|| {
        let chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(chosen), Some(asked)) = (chosen, asked()) else { return DONE };
        match chosen.bind() {
            Ok(()) => DONE,
            Err(why) => {
                slurm::say(&why);
                asked.status()
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_numbered_as_slurm_does() {
        assert_eq!(release(Some("24.11")), 0x18_0b00);
        assert_eq!(release(Some("22.05")), 0x16_0500);
        assert_eq!(release(None), 0);
        for wrong in ["24", "", "x", "24.11.5", "24.11-rc1", "999.1"] {
            assert!(std::panic::catch_unwind(|| release(Some(wrong))).is_err(), "{wrong:?}");
        }
    }
}
