//! Variables of the environment.

/// Returns the value of a variable that is set to something.
pub fn value(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
