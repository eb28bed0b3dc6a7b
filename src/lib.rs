//! What placer's programs share. Not a public API: embedders use `placer-engine` and
//! `placer-launcher`.

#![allow(missing_docs, reason = "shared by placer's own programs")]

pub mod args;
pub mod atomic_file;
pub mod container;
pub mod daemon;
pub mod error_chain;
pub mod nri;
pub mod numad;
pub mod oci;
pub mod protocol;
pub mod replay;
pub mod report;
pub mod service;
pub mod settings;
pub mod trust;

/// The programs on the user guide's page about embedding, compiled and run as tests. Here rather than in the
/// engine, whose package does not have the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/src/embedding.md")]
struct Embedding;
