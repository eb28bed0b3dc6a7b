//! Programs that are installed with this one: what they need is not loaded by every advice.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Returns where such a program lies: beside this one, or where programs lie that people do not call.
///
/// Errors: it lies in neither place. `wanted_by` is what needs it.
pub(crate) fn program(name: &str, wanted_by: &str) -> Result<PathBuf, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    let places = [dir.join(name), dir.join("../libexec/placer").join(name)];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let places = places.map(|path| path.display().to_string()).join(" or ");
        format!("{wanted_by}: expected the program {name} as {places}, found none").into()
    })
}
