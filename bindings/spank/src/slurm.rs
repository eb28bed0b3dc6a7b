//! What the plugin asks of Slurm. The functions are those of the program that has loaded it: they are looked up when
//! they are called, so that the library has no symbols that a test would lack.

#![expect(unsafe_code, reason = "functions of Slurm's")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// What a task knows of itself.
pub(crate) trait Slurm {
    /// Returns a number that Slurm has about the task.
    fn number(&self, item: Item) -> Option<u64>;

    /// Returns a variable of the task's environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// Sets a variable of the task's environment that is not set.
    fn set_variable(&self, name: &str, value: &str);

    /// Says something to the user of the job.
    fn say(&self, text: &str);
}

/// Items of `spank_get_item`, by their numbers in spank.h: the same from Slurm 17.11 to 26.05.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Item {
    /// The number of the step (`uint32_t`).
    Step = 3,
    /// Tasks of the step on this host (`uint32_t`).
    LocalTasks = 6,
    /// The number of the task on this host (`int`).
    LocalTask = 11,
    /// CPUs of each task (`uint32_t`).
    CpusPerTask = 24,
    /// Memory of the step on this host in MB (`uint64_t`).
    StepMemory = 28,
}

/// The handle that Slurm gives to each call.
pub(crate) type Handle = *mut c_void;

/// Slurm, for the time of one call.
pub(crate) struct Live(Handle);

impl Live {
    /// Returns the Slurm behind a handle.
    pub(crate) fn of(handle: Handle) -> Self {
        Self(handle)
    }
}

/// Finds a function of the program, by its name with a NUL byte.
fn function(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a NUL byte.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The longest variable that is read.
const LONGEST: usize = 64 << 10;

impl Slurm for Live {
    fn number(&self, item: Item) -> Option<u64> {
        type GetItem = unsafe extern "C" fn(Handle, c_int, ...) -> c_int;
        let function = function(c"spank_get_item")?;
        // SAFETY: spank.h declares the function so.
        let get = unsafe { std::mem::transmute::<*mut c_void, GetItem>(function) };
        // Wide enough for each of the types; what is not written stays zero.
        let mut value = 0_u64;
        // SAFETY: Slurm writes 4 or 8 bytes for these items, and `value` has 8.
        let status = unsafe { get(self.0, item as c_int, &raw mut value) };
        let is_wide = item == Item::StepMemory;
        let value = if is_wide || cfg!(target_endian = "little") { value } else { value >> 32 };
        (status == 0).then_some(value)
    }

    fn variable(&self, name: &str) -> Option<String> {
        type GetEnv = unsafe extern "C" fn(Handle, *const c_char, *mut c_char, c_int) -> c_int;
        let function = function(c"spank_getenv")?;
        // SAFETY: spank.h declares the function so.
        let get = unsafe { std::mem::transmute::<*mut c_void, GetEnv>(function) };
        let name = CString::new(name).ok()?;
        let mut buffer = vec![0_u8; LONGEST];
        let length = c_int::try_from(buffer.len()).ok()?;
        // SAFETY: the name ends with a NUL byte; Slurm writes at most `length` bytes, the last of them NUL.
        let status = unsafe { get(self.0, name.as_ptr(), buffer.as_mut_ptr().cast(), length) };
        let text = CStr::from_bytes_until_nul(&buffer).ok().filter(|_| status == 0)?;
        text.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn set_variable(&self, name: &str, value: &str) {
        type SetEnv = unsafe extern "C" fn(Handle, *const c_char, *const c_char, c_int) -> c_int;
        let Some(function) = function(c"spank_setenv") else { return };
        // SAFETY: spank.h declares the function so.
        let set = unsafe { std::mem::transmute::<*mut c_void, SetEnv>(function) };
        let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
        // SAFETY: both texts end with a NUL byte; Slurm copies them.
        let _ = unsafe { set(self.0, name.as_ptr(), value.as_ptr(), 0) };
    }

    fn say(&self, text: &str) {
        say(text);
    }
}

/// Says something to the user of the job, or to whoever runs srun.
pub(crate) fn say(text: &str) {
    type Log = unsafe extern "C" fn(*const c_char, ...);
    let Some(function) = function(c"slurm_spank_log") else { return };
    // SAFETY: spank.h declares the function so.
    let log = unsafe { std::mem::transmute::<*mut c_void, Log>(function) };
    let Ok(text) = CString::new(format!("placer: {text}")) else { return };
    // SAFETY: the format takes one text, which ends with a NUL byte.
    unsafe { log(c"%s".as_ptr(), text.as_ptr()) };
}

/// An option of srun, sbatch and salloc, as `struct spank_option` of spank.h.
#[repr(C)]
pub(crate) struct SpankOption {
    pub(crate) name: *const c_char,
    pub(crate) arginfo: *const c_char,
    pub(crate) usage: *const c_char,
    pub(crate) has_arg: c_int,
    pub(crate) val: c_int,
    pub(crate) callback: unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int,
}

// SAFETY: all pointers lead to constants.
unsafe impl Sync for SpankOption {}

/// Offers an option. Where there are none, as in slurmd, Slurm refuses it, and nothing is lost.
pub(crate) fn offer(handle: Handle, option: &'static SpankOption) {
    type Register = unsafe extern "C" fn(Handle, *const SpankOption) -> c_int;
    let Some(function) = function(c"spank_option_register") else { return };
    // SAFETY: spank.h declares the function so.
    let register = unsafe { std::mem::transmute::<*mut c_void, Register>(function) };
    // SAFETY: the option lives as long as the program.
    let _ = unsafe { register(handle, option) };
}
