use testkit::machine::Machine;

use super::*;
use crate::sampler::{Engine, Figures};

fn first_note(engine: &Engine) -> Option<String> {
    let request = "1:1".parse().expect("a request");
    engine.advise(&request).expect("an advice").notes.into_iter().next()
}

#[test]
fn an_answer_says_that_the_thread_is_late_or_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    Machine::new().node(0, 0..4, 1 << 20, 1 << 19).write(dir.path());
    let mut thread =
        SamplerThread::start(SysRoot::at(dir.path()), Duration::from_secs(3600), SECOND)
            .expect("a thread");
    let on_time = thread.outdated;
    thread.outdated = Duration::ZERO;
    let mut engine = Engine { figures: Figures::Thread(thread), counted: None };
    let late = first_note(&engine).expect("a note");
    assert!(late.ends_with(" s old: the sampling thread is late"), "{late}");

    let Figures::Thread(thread) = &mut engine.figures else { unreachable!("a thread") };
    thread.outdated = on_time;
    assert_eq!(first_note(&engine), None);

    // The thread ends as after a panic: without the engine.
    let Figures::Thread(thread) = &engine.figures else { unreachable!("a thread") };
    thread.control.send(Control::Stop).expect("an order");
    while !thread.thread.as_ref().is_some_and(JoinHandle::is_finished) {
        std::thread::yield_now();
    }
    let ended = first_note(&engine).expect("a note");
    assert!(ended.contains(" s old: the sampling thread has panicked"), "{ended}");
}
