//! Answers questions that came by the queue.

use std::time::Duration;

use crossbeam_channel::Receiver;
use nix::unistd::geteuid;
use placer_engine::NodeSet;

use super::Shared;
use super::desk::Job;
use super::post::{Answer, Mail};
use crate::daemon::peer::{Peer, Way};
use crate::numad::queue::fit::fit;
use crate::numad::queue::message::{LONGEST_TEXT, Message};
use crate::numad::queue::process::{Process, user_of};
use crate::settings::Level;

/// What could not be answered is tried so many times more, so much later: the host is read anew four
/// times a second.
const AGAIN: usize = 4;
const LATER: Duration = Duration::from_millis(100);

/// Answers until there will be no more questions.
pub(crate) fn run(shared: &Shared, questions: &Receiver<Job>) {
    for Job { client, sent, process, options, advice } in questions {
        let number = |pid: i32| u32::try_from(pid).ok();
        let parent = process.as_ref().map(Process::parent);
        let pid = process.as_ref().and_then(|process| number(process.pid));
        // Nobody else can have sent.
        let uid = user_of(client).unwrap_or_else(|| geteuid().as_raw());
        // Any process of root's group may send, and name any other as the sender. Two that send at once hide
        // each other from the kernel's record; a numad asks once, so in its name one claim is made at most.
        let in_doubt = match &process {
            None => Some("the client has exited"),
            Some(process) if !sent && !process.is_numad() => {
                Some("the message names another process as its sender than the kernel does")
            }
            Some(_) => None,
        };
        let peer = Peer {
            uid,
            in_doubt,
            principal: shared.core.principal(uid, pid),
            pid,
            // A client asks once, and its question may arrive on both queues.
            nonce: process.as_ref().and_then(Process::nonce),
            // Who asks is the one that called numad, which is about to end.
            caller: parent.or(number(client)).unwrap_or(0),
            way: Way::Queue,
        };
        let gone = || process.as_ref().is_some_and(Process::has_gone);
        let core = &shared.core;
        let ask = || core.numad_with(&options, advice, &core.settings(), &peer, &gone);
        let (mut told, mut lines) = ask();
        // A node that goes is noticed at the next reading. The client cannot ask again.
        for _ in 0..AGAIN {
            if told.result.is_ok() || gone() {
                break;
            }
            std::thread::sleep(LATER);
            (told, lines) = ask();
        }
        for line in told.lines {
            shared.tell(Level::Warning, "beside an answer", &[("line", &line)]);
        }
        for (_, line) in lines {
            shared.tell(Level::Debug, "numad would log", &[("line", &line)]);
        }
        // Without nodes the client prints an empty line, which libvirt takes for a failure. numad's
        // daemon ends here, and its client waits for ever. Why, the log has said.
        let nodes = told.result.unwrap_or_default();
        let text = if nodes.len() <= LONGEST_TEXT { nodes } else { shorten(shared, &nodes) };
        let message = Message { text, ..Message::new(shared.pid, b'w', 0, 0) };
        let _ = shared.mail.send(Mail::Answer(Answer { to: client, process, message }));
        shared.waiting(|waiting| waiting.remove(&client));
    }
}

fn shorten(shared: &Shared, nodes: &str) -> String {
    let Ok(chosen) = nodes.parse::<NodeSet>() else { return String::new() };
    let snapshot = shared.core.warm().engine().snapshot();
    let host: NodeSet = snapshot.nodes().iter().map(|node| node.id).collect();
    let fitted = fit(&chosen, &host, LONGEST_TEXT);
    let added = fitted.added.unwrap_or(0);
    let fields: [(&str, &dyn std::fmt::Display); 3] =
        [("chosen", &chosen), ("told", &fitted.nodes), ("more", &added)];
    shared.tell(Level::Warning, "a node list too long for numad names more nodes", &fields);
    fitted.nodes.to_string()
}
