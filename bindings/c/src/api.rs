//! The functions of `placer.h`, which describes them.

#![expect(unsafe_code, reason = "called by C")]

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong};
use std::ptr;

use crate::answer::Answer;
use crate::border::{bytes, call, clear, free, give, object, object_mut, text};
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::request::Question;

type Error = *mut *mut Failure;

#[unsafe(no_mangle)]
extern "C" fn placer_version() -> *const c_char {
    const VERSION: &[u8] = concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes();
    VERSION.as_ptr().cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_host_open(
    root: *const c_char,
    flags: c_uint,
    host: *mut *mut Host,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            clear(host, "host")?;
            give(host, Host::open(bytes(root), flags)?);
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_host_set(
    host: *const Host,
    key: *const c_char,
    value: *const c_char,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            let value = bytes(value).unwrap_or_default();
            object(host, "host")?.set(text(key, "key")?, value)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_host_age_ms(host: *const Host) -> c_long {
    let mut age = -1;
    // SAFETY: the header demands a valid pointer.
    let code = unsafe {
        call(ptr::null_mut(), || {
            age = object(host, "host")?.age_ms()?;
            Ok(())
        })
    };
    if code == 0 { age } else { code.into() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_host_close(host: *mut Host) {
    // SAFETY: the header demands a host of ours that is not used any more, or null.
    unsafe {
        // In a forked child it may be half changed: by another thread of the parent, at the fork.
        if object(host, "host").is_ok_and(|host| host.check_process().is_ok()) {
            free(host);
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_request_new(
    host: *const Host,
    asked: *const c_char,
    request: *mut *mut Question,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            clear(request, "request")?;
            let root = &object(host, "host")?.root;
            give(request, Question::new(root, text(asked, "text")?)?);
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_request_set(
    request: *mut Question,
    key: *const c_char,
    value: *const c_char,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers, and one thread at a time.
    unsafe {
        call(error, || {
            let value = bytes(value).unwrap_or_default();
            object_mut(request, "request")?.set(text(key, "key")?, value)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_request_free(request: *mut Question) {
    // SAFETY: the header demands a request of ours that is not used any more, or null.
    unsafe { free(request) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advise(
    host: *const Host,
    request: *const Question,
    advice: *mut *mut Answer,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            clear(advice, "advice")?;
            give(advice, object(host, "host")?.advise(object(request, "request")?)?);
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_place(
    host: *const Host,
    request: *const Question,
    pid: c_long,
    hold_ms: c_ulong,
    advice: *mut *mut Answer,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            clear(advice, "advice")?;
            let owner = host::owner(pid, hold_ms)?;
            give(advice, object(host, "host")?.place(object(request, "request")?, owner)?);
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_claim(
    host: *const Host,
    advice: *const Answer,
    pid: c_long,
    hold_ms: c_ulong,
    claimed: *mut *mut Answer,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            clear(claimed, "claimed")?;
            let owner = host::owner(pid, hold_ms)?;
            give(claimed, object(host, "host")?.claim(object(advice, "advice")?, owner)?);
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_adopt(
    host: *const Host,
    claim: *const c_char,
    pid: c_long,
    hold_ms: c_ulong,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe {
        call(error, || {
            let owner = host::owner(pid, hold_ms)?;
            object(host, "host")?.adopt(text(claim, "claim")?, owner)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_release(
    host: *const Host,
    claim: *const c_char,
    error: Error,
) -> c_int {
    // SAFETY: the header demands valid pointers.
    unsafe { call(error, || object(host, "host")?.release(text(claim, "claim")?)) }
}

/// Returns a text of an advice; null of none.
///
/// # Safety
///
/// `advice` is null or one of ours.
unsafe fn text_of(
    advice: *const Answer,
    text: impl FnOnce(&Answer) -> Option<&CStr>,
) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { advice.as_ref() }.and_then(text).map_or(ptr::null(), CStr::as_ptr)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advice_nodes(advice: *const Answer) -> *const c_char {
    // SAFETY: the header demands an advice of ours, or null.
    unsafe { text_of(advice, |advice| Some(&advice.nodes)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advice_cpus(advice: *const Answer) -> *const c_char {
    // SAFETY: the header demands an advice of ours, or null.
    unsafe { text_of(advice, |advice| Some(&advice.cpus)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advice_claim(advice: *const Answer) -> *const c_char {
    // SAFETY: the header demands an advice of ours, or null.
    unsafe { text_of(advice, |advice| advice.claim.as_deref()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advice_json(advice: *const Answer) -> *const c_char {
    // SAFETY: the header demands an advice of ours, or null.
    unsafe { text_of(advice, |advice| Some(&advice.json)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advice_fits(advice: *const Answer) -> c_int {
    // SAFETY: the header demands an advice of ours, or null.
    unsafe { advice.as_ref() }.is_some_and(|advice| advice.advice.fits()).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_advice_free(advice: *mut Answer) {
    // SAFETY: the header demands an advice of ours that is not used any more, or null.
    unsafe { free(advice) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_error_code(error: *const Failure) -> c_int {
    // SAFETY: the header demands an error of ours, or null.
    unsafe { error.as_ref() }.map_or(0, |failure| failure.code.number())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_error_text(error: *const Failure) -> *const c_char {
    // SAFETY: the header demands an error of ours, or null.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |failure| failure.text.as_ptr())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn placer_error_free(error: *mut Failure) {
    // SAFETY: the header demands an error of ours that is not used any more, or null.
    unsafe { free(error) };
}
