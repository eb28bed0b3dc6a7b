//! The commands, a file each.

pub(crate) mod adopt;
pub(crate) mod advise;
pub(crate) mod balance;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod fit;
pub(crate) mod launch;
pub(crate) mod nri;
pub(crate) mod numad;
pub(crate) mod ps;
pub(crate) mod record;
pub(crate) mod release;
pub(crate) mod replay;
pub(crate) mod runc;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod top;
