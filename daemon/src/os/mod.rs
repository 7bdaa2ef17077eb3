//! Every system call that is neither std nor tokio.
//!
//! ```text
//! supervisor ──> process      who is this pid, has it ended, how; signals
//! metrics    ──> proc         what /proc says of a process
//!            ──> family       the processes that one started
//!            ──> stdin        a standard input that never ends
//! supervisor ──> cgroup       whether the kernel killed it because memory ran out
//! rpc        ──> memory       freed memory given back, the time of a thread
//! llama      ──> listener     which process listens on a port
//! rpc        ──> peer         the groups of the process at the other end of a socket
//!            ──> user         names of users, numbers of groups
//! gguf, transfer, models ──> file   what others named, opened as a file or not at all
//!            ──> denied       what keeps us from a file, and what lets us
//! supervisor ──> descriptors  what a child must not inherit, limits
//! lifecycle  ──> signals      what survives the execution of another program
//! logs       ──> cached       reading what is in memory, without waiting for a disk
//!            ──> hole         freeing the head of a file that another process appends to
//! store      ──> disk         room on a disk, a rename that replaces nothing
//!            ──> writes       whether somebody wrote to a file
//! ```
//!
//! Nothing outside this folder knows that the platform is Linux (5.10 or newer), and the only
//! `unsafe` of the daemon is here, each block with the reason why it is sound.

pub mod cached;
pub mod cgroup;
pub mod denied;
pub mod descriptors;
pub mod disk;
pub mod family;
pub mod file;
pub mod hole;
pub mod listener;
pub mod memory;
pub mod peer;
pub mod proc;
pub mod process;
pub mod signals;
pub mod stdin;
pub mod user;
pub mod writes;
