//! The border to C: panics end here, and pointers are checked for null.

#![expect(unsafe_code, reason = "pointers of C")]

use std::any::Any;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use crate::failure::{Code, Failure};

/// The place of the last panic, for the text of the error.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `work`, and returns 0, or the code of its failure, which goes to `error` if that is not null. A panic
/// is `PLACER_ERR_BUG`. An error of an earlier call does not stay in `error`.
///
/// # Safety
///
/// `error` is null or can be written to.
pub(crate) unsafe fn call(
    error: *mut *mut Failure,
    work: impl FnOnce() -> Result<(), Failure>,
) -> c_int {
    silence_panics();
    if !error.is_null() {
        // SAFETY: not null, so it can be written to, as the caller promises.
        unsafe { error.write(std::ptr::null_mut()) };
    }
    // What a panic leaves half done is not seen again: locks are taken over as they are, and each question
    // starts anew.
    let result = catch_unwind(AssertUnwindSafe(work));
    let failure = match result {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(payload) => bug(payload.as_ref()),
    };
    let code = failure.code.number();
    // SAFETY: as the caller promises.
    unsafe { give(error, failure) };
    code
}

fn bug(payload: &(dyn Any + Send)) -> Failure {
    let said = payload.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic");
    let place = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    Failure::new(Code::Bug, format!("a bug in libplacer: {said} ({place})"))
}

/// Keeps panics off the program's stderr. This library has its own copy of Rust's standard library, so no hook
/// of the program is replaced.
fn silence_panics() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }));
    });
}

/// Hands an object over to C, if C wants it.
///
/// # Safety
///
/// `place` is null or can be written to.
pub(crate) unsafe fn give<T>(place: *mut *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not null, so it can be written to, as the caller promises.
        unsafe { place.write(Box::into_raw(Box::new(value))) };
    }
}

/// Fails if there is no place for a result, and clears it.
///
/// # Safety
///
/// `place` is null or can be written to.
pub(crate) unsafe fn clear<T>(place: *mut *mut T, name: &str) -> Result<(), Failure> {
    if place.is_null() {
        return Err(missing(name));
    }
    // SAFETY: not null, so it can be written to, as the caller promises.
    unsafe { place.write(std::ptr::null_mut()) };
    Ok(())
}

/// Returns an object of ours.
///
/// # Safety
///
/// `object` is null or was handed over by [`give`], and is not freed while the result is in use.
pub(crate) unsafe fn object<'a, T>(object: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as the caller promises.
    unsafe { object.as_ref() }.ok_or_else(|| missing(name))
}

/// Returns an object of ours to change.
///
/// # Safety
///
/// As [`object`](fn@object), and no other thread uses it.
pub(crate) unsafe fn object_mut<'a, T>(object: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: as the caller promises.
    unsafe { object.as_mut() }.ok_or_else(|| missing(name))
}

/// Returns a string of C.
///
/// # Safety
///
/// `text` is null or ends with a NUL byte, and does not change while the result is in use.
pub(crate) unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: not null, so it ends with a NUL byte, as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// Returns a string of C that has to be there, and to be UTF-8.
///
/// # Safety
///
/// As [`bytes`].
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: as the caller promises.
    let text = unsafe { bytes(text) }.ok_or_else(|| missing(name))?;
    text.to_str().map_err(|_| {
        Failure::new(Code::Argument, format!("{name}: expected UTF-8, found {text:?}"))
    })
}

/// Ends an object that C has had.
///
/// # Safety
///
/// `object` is null or was handed over by [`give`], and is not used any more.
pub(crate) unsafe fn free<T>(object: *mut T) {
    if !object.is_null() {
        // SAFETY: made by `give` of a box, and used no more, as the caller promises.
        let object = unsafe { Box::from_raw(object) };
        // A panic while it is dropped has nobody to go to.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(object)));
    }
}

fn missing(name: &str) -> Failure {
    Failure::new(Code::Argument, format!("{name} is NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_place() {
        let mut error = std::ptr::null_mut();
        // SAFETY: `error` can be written to.
        let code = unsafe { call(&raw mut error, || std::panic::panic_any("seven".to_owned())) };
        assert_eq!(code, -7);
        // SAFETY: handed over by `call`, and freed once.
        let failure = unsafe { object(error, "error") }.expect("a failure");
        let text = failure.text.to_str().expect("text");
        assert!(
            text.starts_with("a bug in libplacer: seven (") && text.contains("border.rs:"),
            "{text}"
        );
        // SAFETY: as above.
        unsafe { free(error) };
    }

    #[test]
    fn null_is_an_argument_that_is_missing() {
        // SAFETY: null is allowed everywhere.
        unsafe {
            assert_eq!(
                call(std::ptr::null_mut(), || clear::<u8>(std::ptr::null_mut(), "host")),
                -1
            );
            assert!(
                text(std::ptr::null(), "key").is_err_and(|e| e.text.as_bytes() == b"key is NULL")
            );
            assert!(text(c"\xff".as_ptr(), "key").is_err_and(|e| e.code == Code::Argument));
            free::<u8>(std::ptr::null_mut());
        }
    }
}
