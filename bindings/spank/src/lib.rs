//! placer-spank.so: a plugin of Slurm (SPANK) that places each task of a job: `srun --placer[=CPUS:MEM]`.
//!
//! `plugin` is what Slurm loads and calls, `slurm` what it calls of Slurm's, `task` the decision. Slurm's order for a
//! task: `task_init_privileged` in its process as root, inside the job's cpuset, where the place is chosen and claimed;
//! then Slurm's own bindings; then `task_init` as the user, where the task is bound.
//!
//! All of it runs inside slurmstepd: it starts no thread, no panic leaves it, and it decides four times at most and waits
//! 150 ms for the ledger's lock. Slurm loads a plugin only if it was built for its own release: `make spank SLURM=24.11`.

#![deny(unsafe_code)]

mod plugin;
mod slurm;
mod task;
