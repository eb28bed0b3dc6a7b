//! The account that a user belongs to: claims, limits and guests are matched by it.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use super::proc_text;
use crate::source::SysRoot;

/// The largest account file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Users under which libvirt runs guests for the host.
const LIBVIRTS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// The host's own: root, and the user under which libvirt runs guests.
    Host,
    /// A user, with all subordinate users that `/etc/subuid` gives to that one.
    User(u32),
    /// A container whose processes have a uid of the host's: the pid namespace of the process that asked.
    Container(u64),
}

impl Principal {
    /// Returns the account of a user of which nothing else is known.
    pub fn of_uid(uid: u32) -> Self {
        if uid == 0 { Self::Host } else { Self::User(uid) }
    }

    /// Returns whether claims of it stand in the way of the host's own requests.
    pub fn is_host(self) -> bool {
        self == Self::Host
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::User(uid) => write!(f, "user:{uid}"),
            Self::Container(namespace) => write!(f, "container:{namespace}"),
        }
    }
}

impl FromStr for Principal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.split_once(':') {
            None if text == "host" => Some(Self::Host),
            Some(("user", uid)) => uid.parse().ok().map(Self::User),
            Some(("container", namespace)) => namespace.parse().ok().map(Self::Container),
            _ => None,
        };
        read.filter(|read| read.to_string() == text).ok_or_else(|| {
            format!("expected a principal, as in host, user:1000 or container:4026532001, found {text:?}")
        })
    }
}

/// The accounts of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principals {
    host: Vec<u32>,
    /// Subordinate users: the first, how many, whose.
    ranges: Vec<(u32, u32, u32)>,
}

impl Principals {
    /// Reads the accounts of a host from `/etc/passwd` and `/etc/subuid`. Files that are missing or
    /// damaged make each user an account of its own.
    pub fn read(root: &SysRoot) -> Self {
        let text = |name: &str| text(&root.dir().join("etc").join(name));
        Self::parse(&text("passwd"), &text("subuid"))
    }

    /// Reads the accounts from the text of both files. Lines that are damaged are left out.
    pub fn parse(passwd: &[u8], subuid: &[u8]) -> Self {
        let host = std::iter::once(0).chain(proc_text::users(passwd, &LIBVIRTS)).collect();
        let range = |line: &[u8]| -> Option<(u32, u32, u32)> {
            let mut fields = line.split(|&b| b == b':');
            let owner = std::str::from_utf8(fields.next()?).ok()?;
            let number =
                |field: Option<&[u8]>| std::str::from_utf8(field?).ok()?.trim().parse().ok();
            let (first, count) = (number(fields.next())?, number(fields.next())?);
            let uid = owner
                .parse()
                .ok()
                .or_else(|| proc_text::users(passwd, &[owner]).first().copied())?;
            Some((first, count, uid))
        };
        // Root's own range is for containers whose users are strangers to the host.
        let ranges = subuid.split(|&b| b == b'\n').filter_map(range).filter(|range| range.2 != 0);
        Self { host, ranges: ranges.collect() }
    }

    /// Returns the account of a user who asks. libvirt's user starts guests for the host and asks for nothing:
    /// what runs as it may be a guest that has broken out of its machine.
    pub fn of_asker(&self, uid: u32) -> Principal {
        match self.of(uid) {
            Principal::Host => Principal::of_uid(uid),
            other => other,
        }
    }

    /// Returns the account of a user.
    pub fn of(&self, uid: u32) -> Principal {
        if uid == 0 || self.host.contains(&uid) {
            return Principal::Host;
        }
        let of = |&(first, count, _): &(u32, u32, u32)| {
            uid.checked_sub(first).is_some_and(|at| at < count)
        };
        Principal::User(self.ranges.iter().find(|range| of(range)).map_or(uid, |range| range.2))
    }
}

fn text(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let file = File::open(path).map(|file| file.take(MAX_FILE));
    match file.and_then(|mut file| file.read_to_end(&mut text)) {
        Ok(_) => text,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_users_are_their_owners_account() {
        let passwd = b"root:x:0:0::/:/bin/sh\nlibvirt-qemu:x:64055:64055::/:/bin/false\n\
                       ann:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
        let subuid =
            b"ann:100000:65536\n1001:165536:65536\nroot:300000:65536\nodd\nx:1:2\nann:9:\n";
        let all = Principals::parse(passwd, subuid);
        for (uid, principal) in [
            (0, Principal::Host),
            (64_055, Principal::Host),
            (1000, Principal::User(1000)),
            (100_000, Principal::User(1000)),
            (165_535, Principal::User(1000)),
            (165_536, Principal::User(1001)),
            (231_071, Principal::User(1001)),
            (231_072, Principal::User(231_072)),
            (300_000, Principal::User(300_000)),
            (u32::MAX, Principal::User(u32::MAX)),
        ] {
            assert_eq!(all.of(uid), principal, "{uid}");
        }
        assert_eq!(Principals::default().of(0), Principal::Host);
    }
}
