//! The engine from outside, a module for each part.

mod balance;
mod best_brute;
mod best_certificates;
mod best_explain;
mod best_golden;
mod best_properties;
mod best_silly;
mod commit_protocol;
mod embeddings;
mod hwloc;
mod procfs;
mod required_cache;
mod sampler_thread;
mod together;
