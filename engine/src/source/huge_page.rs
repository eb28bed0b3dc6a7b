//! The size of huge pages that a host uses where none is named.

use super::{SysRoot, file};
use crate::error::SourceError;
use crate::parse::{self, ParseError};
use crate::units::Bytes;

/// Returns the default size of huge pages; `None` on a kernel without them.
///
/// Source: `Hugepagesize` of `/proc/meminfo`.
/// Errors: the file cannot be read, or the size is none.
///
/// ```no_run
/// use placer_engine::{SysRoot, source::default_huge_page};
/// println!("{:?}", default_huge_page(&SysRoot::live())?);
/// # Ok::<(), placer_engine::SourceError>(())
/// ```
pub fn default_huge_page(root: &SysRoot) -> Result<Option<Bytes>, SourceError> {
    let path = root.path("proc/meminfo");
    let Some(text) = file::read(&path)? else { return Ok(None) };
    let mut start = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        if let Some(value) = line.strip_prefix(b"Hugepagesize:") {
            let blanks = value.iter().take_while(|b| **b == b' ').count();
            let size = parse::number(&value[blanks..]).and_then(|(kib, _)| kib.checked_mul(1024));
            let at = start + line.len() - value.len() + blanks;
            let error = || ParseError::at(&text, at, "a size in kB");
            let size = size.filter(|size| size.is_power_of_two());
            return match size {
                Some(size) => Ok(Some(Bytes::new(size))),
                None => Err(SourceError::parse(&path, error())),
            };
        }
        start += line.len();
    }
    Ok(None)
}
