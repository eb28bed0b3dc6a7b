//! Messages as they come from numad's queue, without a queue: from bytes to answers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};
use placer_engine::claims::Principal;
use placer_engine::policy::numad::Version;
use placer_engine::{NodeId, NodeSet};

use super::desk::{Desk, Job};
use super::line::Line;
use super::post::Mail;
use super::receivers::{Arrived, pass_on};
use super::{ANSWERING, Common, MOST_ARRIVED, Shared};
use crate::daemon::core::Core;
use crate::daemon::peer::{Peer, Way};
use crate::numad::queue::fit::fit;
use crate::numad::queue::message::{LONGEST_TEXT, Message};

/// The desk, and the threads that answer.
#[derive(Debug)]
pub struct Queue {
    shared: Arc<Shared>,
    desk: Desk,
    arrived: Receiver<Option<Arrived>>,
    questions: Receiver<Job>,
    _mail: Receiver<Mail>,
}

impl Queue {
    /// Opens a desk for a daemon.
    pub(crate) fn of(core: &Arc<Core>) -> Self {
        let (arrivals, arrived) = bounded(MOST_ARRIVED);
        let (mail, inbox) = bounded(1);
        let (jobs, questions) = bounded(ANSWERING);
        let common = Common::of_no_process(core);
        let shared = Shared::new(&common, Version::V2025, Line::off(), arrivals, mail);
        let desk = Desk::new(Arc::clone(&shared), common.standing, jobs);
        Self { shared, desk, arrived, questions, _mail: inbox }
    }

    /// Takes messages that came in one go, each with the pid and user of the last sender.
    /// Returns the answers as they would be sent, by client.
    ///
    /// Panics where what was understood is not what was sent, or an answer is none.
    pub fn take(&mut self, messages: &[(&[u8], i32, Option<u32>)]) -> Vec<(i32, Vec<u8>)> {
        let arrived = |&(bytes, last_sender, user): &(&[u8], i32, Option<u32>)| {
            let what = Message::decode(bytes);
            if let Ok(message) = &what {
                assert_eq!(message.encode(), bytes);
            }
            Arrived { what, last_sender, user }
        };
        messages.iter().map(arrived).for_each(|one| pass_on(&self.shared, one));
        self.desk.take_at_once(self.arrived.try_iter().flatten().collect());
        let answers = self.questions.try_iter().map(|job| (job.client, self.answer(&job)));
        answers.collect()
    }

    fn answer(&self, job: &Job) -> Vec<u8> {
        let core = &self.shared.core;
        let peer = Peer {
            uid: 0,
            principal: Principal::Host,
            pid: None,
            caller: 0,
            nonce: None,
            in_doubt: None,
            way: Way::Queue,
        };
        let settings = core.settings();
        let (told, _) = core.numad_with(&job.options, job.advice, &settings, &peer, &|| false);
        self.shared.waiting(|waiting| waiting.remove(&job.client));
        let chosen = told.result.unwrap_or_default();
        let nodes: NodeSet = chosen.parse().expect("a list of nodes");
        // As if the host had many more.
        let many: NodeSet =
            nodes.iter().flat_map(|node| [node, NodeId(node.0 * 3 + 200)]).collect();
        let fitted = fit(&many, &many, LONGEST_TEXT).nodes;
        assert_eq!(many.difference(&fitted), NodeSet::new());
        let message = Message { text: fitted.to_string(), ..Message::new(1, b'w', 0, 0) };
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message));
        bytes
    }
}
