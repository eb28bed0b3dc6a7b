//! The system calls of System V message queues, which no crate has; the only `unsafe` of the queue.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use placer_engine::policy::numad::Version;

use super::message::LONGEST;

/// The key of the queue of a version of numad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u32);

impl Key {
    /// Returns the key that clients and daemons of a version use.
    pub(crate) const fn of(version: Version) -> Self {
        Self(match version {
            Version::V2015 => 0xdead_beef,
            Version::V2025 => 0xadda_adda,
        })
    }

    /// The kernel's type of a key is signed.
    const fn bits(self) -> libc::key_t {
        self.0.cast_signed()
    }
}

/// As `ipcs` and `ipcrm` write it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// As numad makes it.
pub(crate) const MODE: u32 = 0o660;

/// A queue. A number the kernel gives to no other queue for a long time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(c_int);

/// What the kernel tells of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Owner and maker.
    pub(crate) uids: [u32; 2],
    /// The owning group and the maker's.
    pub(crate) gids: [u32; 2],
    /// The rights, as of a file.
    pub(crate) mode: u32,
    /// How many messages wait.
    pub(crate) messages: u64,
    /// Their bytes, and how many there may be.
    pub(crate) bytes: u64,
    pub(crate) most_bytes: u64,
    /// Who was the last to send, in this pid namespace; 0: nobody, or from outside it.
    pub(crate) last_sender: i32,
}

/// Returns the queue that has a key, if there is one.
pub(crate) fn find(key: Key) -> Result<Option<Id>, Errno> {
    // SAFETY: no memory is passed.
    match Errno::result(unsafe { libc::msgget(key.bits(), 0) }) {
        Ok(id) => Ok(Some(Id(id))),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the queue that has a key.
///
/// Errors: EEXIST when it is there already, ENOSPC.
pub(crate) fn create(key: Key) -> Result<Id, Errno> {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o660;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::msgget(key.bits(), flags) }).map(Id)
}

/// Removes a queue. Whoever waits for it is told.
pub(crate) fn remove(Id(id): Id) -> Result<(), Errno> {
    // SAFETY: this command takes no memory.
    Errno::result(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

/// Returns what the kernel tells of a queue.
pub(crate) fn stat(Id(id): Id) -> Result<Stat, Errno> {
    let mut told = MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: the kernel writes one such structure to a buffer that is one.
    Errno::result(unsafe { libc::msgctl(id, libc::IPC_STAT, told.as_mut_ptr()) })?;
    // SAFETY: zeroes are a value of this structure of numbers, and the kernel has filled it in.
    let told = unsafe { told.assume_init() };
    Ok(Stat {
        uids: [told.msg_perm.uid, told.msg_perm.cuid],
        gids: [told.msg_perm.gid, told.msg_perm.cgid],
        mode: u32::from(told.msg_perm.mode) & 0o777,
        messages: told.msg_qnum,
        bytes: told.__msg_cbytes,
        most_bytes: told.msg_qbytes,
        last_sender: told.msg_lspid,
    })
}

/// Room for a message as the kernel takes and gives it, a byte longer than numad's longest: by that
/// one is told from a longer one.
#[repr(C)]
pub(crate) struct Buffer {
    kind: i64,
    bytes: [u8; LONGEST + 1],
}

const _: () = assert!(
    offset_of!(Buffer, bytes) == size_of::<libc::c_long>() && size_of::<libc::c_long>() == 8,
    "a message is a long and, right behind it, its bytes"
);

impl Buffer {
    /// Returns an empty one.
    pub(crate) fn new() -> Self {
        Self { kind: 0, bytes: [0; LONGEST + 1] }
    }
}

/// Puts a message into the queue.
///
/// Errors: EAGAIN when there is no room; EINVAL, EIDRM when the queue is gone.
pub(crate) fn send(Id(id): Id, to: i32, bytes: &[u8]) -> Result<(), Errno> {
    let mut buffer = Buffer { kind: i64::from(to), ..Buffer::new() };
    let room = buffer.bytes.get_mut(..bytes.len()).ok_or(Errno::E2BIG)?;
    room.copy_from_slice(bytes);
    let start: *const Buffer = &raw const buffer;
    // SAFETY: the kernel reads a long and `bytes.len()` bytes behind it, and the buffer has both.
    let sent = unsafe { libc::msgsnd(id, start.cast::<c_void>(), bytes.len(), libc::IPC_NOWAIT) };
    Errno::result(sent).map(drop)
}

/// Whose messages to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This receiver's.
    Of(i32),
    /// Those of all others.
    NotOf(i32),
}

/// Takes the first message, and waits for one if told to. Returns whose it is, and its bytes; one
/// that is too long is cut to one byte more than numad's longest.
///
/// Errors: ENOMSG when there is none; EINTR; EINVAL, EIDRM when the queue is gone.
pub(crate) fn receive(
    Id(id): Id,
    whose: Whose,
    wait: bool,
    buffer: &mut Buffer,
) -> Result<(i64, &[u8]), Errno> {
    // Not in the libc crate.
    const MSG_EXCEPT: c_int = 0o20000;
    let (kind, except) = match whose {
        Whose::Of(pid) => (pid, 0),
        Whose::NotOf(pid) => (pid, MSG_EXCEPT),
    };
    let flags = libc::MSG_NOERROR | except | if wait { 0 } else { libc::IPC_NOWAIT };
    let start: *mut Buffer = &raw mut *buffer;
    let size = buffer.bytes.len();
    // SAFETY: the kernel writes a long and at most `size` bytes behind it, and the buffer has both;
    // what it wrote before was initialised too.
    let read = unsafe { libc::msgrcv(id, start.cast::<c_void>(), size, kind.into(), flags) };
    let read = usize::try_from(Errno::result(read)?).unwrap_or(0);
    Ok((buffer.kind, buffer.bytes.get(..read).unwrap_or_default()))
}

/// Takes what there is for one receiver, or more. Returns how many messages that were; stops at
/// `most`.
pub(crate) fn discard(id: Id, whose: Whose, most: usize) -> usize {
    let mut buffer = Buffer::new();
    (0..most).take_while(|_| receive(id, whose, false, &mut buffer).is_ok()).count()
}

/// What wakes a thread from a call. Nobody sends it for another reason to a program without sockets
/// that have urgent data.
const WAKE: Signal = Signal::SIGURG;

/// Lets [`wake`] end the calls in which this thread waits.
pub(crate) fn allow_waking() -> Result<(), Errno> {
    extern "C" fn nothing(_: c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing at all. Nothing else in this program handles this signal.
    unsafe { sigaction(WAKE, &action) }?;
    let mut set = SigSet::empty();
    set.add(WAKE);
    set.thread_unblock()
}

/// Ends the call in which a thread waits. One that is just about to wait does not notice.
pub(crate) fn wake<T>(thread: &JoinHandle<T>) {
    if !thread.is_finished() {
        // SAFETY: the thread has not been joined, so its handle names it, even when it ends now.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), WAKE as c_int) };
    }
}
