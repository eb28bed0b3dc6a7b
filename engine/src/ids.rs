//! Ids of CPUs and nodes, each a type of its own so that they cannot be mixed.
//!
//! Ids are the kernel's. They have gaps and are never positions in a list: look things up by id.

use std::fmt;

/// What an [`IdSet`](crate::IdSet) can hold: a number with a meaning.
pub trait Id: Copy + Ord + fmt::Debug {
    /// Returns the id for a kernel number.
    fn from_number(number: u32) -> Self;
    /// Returns the kernel's number.
    fn number(self) -> u32;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl Id for $name {
            fn from_number(number: u32) -> Self {
                Self(number)
            }
            fn number(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A logical CPU (a hardware thread), as in `/sys/devices/system/cpu/cpu<N>`.
    ///
    /// ```
    /// use placer_engine::CpuId;
    /// assert_eq!(CpuId(7).to_string(), "7");
    /// ```
    CpuId
}
id! {
    /// A NUMA node, as in `/sys/devices/system/node/node<N>`. Ids past 255 are ordinary.
    ///
    /// ```
    /// use placer_engine::NodeId;
    /// assert!(NodeId(2) < NodeId(250));
    /// ```
    NodeId
}
