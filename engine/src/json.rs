//! The answer as the JSON of `placer advise --json`. Feature `serde`.
//!
//! Memory is in bytes, CPUs are numbers, lists of nodes and CPUs are text as the kernel writes it (`0-3,8`).
//! Lists of CPUs are `cpu_list`; where the first versions called a list `cpus` that name stays beside it.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::advice::{Advice, CacheShare, Share, Shortfall};
use crate::ids::{Id, NodeId};
use crate::idset::IdSet;
use crate::policy::Policy;
use crate::policy::best::Proof;
use crate::units::{Bytes, CpuShare};

impl Serialize for Advice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = 13 + usize::from(self.shortfall.is_some());
        let mut form = serializer.serialize_struct("Advice", fields)?;
        form.serialize_field("policy", &self.policy)?;
        form.serialize_field("nodes", &self.nodes)?;
        form.serialize_field("cpus", &self.cpus)?;
        form.serialize_field("cpu_list", &self.cpus)?;
        form.serialize_field("caches", &self.caches)?;
        form.serialize_field("cache_cost", &self.cache_cost)?;
        form.serialize_field("fits", &self.fits())?;
        match &self.shortfall {
            Some(short) => form.serialize_field("short", short)?,
            None => form.skip_field("short")?,
        }
        form.serialize_field("split", &self.split)?;
        form.serialize_field("slowdown", &self.slowdown)?;
        form.serialize_field("near", &self.near.map(millionths))?;
        form.serialize_field("crowding", &self.crowding.map(millionths))?;
        form.serialize_field("proof", &self.proof)?;
        form.serialize_field("notes", &self.notes)?;
        form.end()
    }
}

/// The program prints these figures to the millionth.
fn millionths(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

impl Serialize for CacheShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("CacheShare", 5)?;
        form.serialize_field("node", &self.node)?;
        form.serialize_field("level", &self.level)?;
        form.serialize_field("size", &self.size)?;
        form.serialize_field("cpus", &self.cpus)?;
        form.serialize_field("cpu_list", &self.cpus)?;
        form.end()
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("Share", 3)?;
        form.serialize_field("node", &self.node)?;
        form.serialize_field("cpus", &self.cpus)?;
        form.serialize_field("memory", &self.memory)?;
        form.end()
    }
}

impl Serialize for Shortfall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("Amount", 2)?;
        form.serialize_field("cpus", &self.cpus)?;
        form.serialize_field("memory", &self.memory)?;
        form.end()
    }
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Optimal => serializer.serialize_unit_variant("Proof", 0, "optimal"),
            Self::Gap(gap) => serializer.serialize_newtype_variant("Proof", 1, "gap", gap),
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<T: Id> Serialize for IdSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

impl Serialize for CpuShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_cpus())
    }
}
