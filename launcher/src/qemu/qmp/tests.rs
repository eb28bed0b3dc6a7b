use std::thread::{self, JoinHandle};

use super::*;

const SOON: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// A peer that says this, whatever it is asked, and then closes when the other has.
fn peer(words: impl Into<Vec<u8>>, close: bool) -> (UnixStream, JoinHandle<()>) {
    let (mine, theirs) = UnixStream::pair().expect("a channel");
    let words = words.into();
    let talk = move || {
        let mut stream = theirs;
        let _ = stream.write_all(&words);
        if close {
            return;
        }
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink);
    };
    (mine, thread::spawn(talk))
}

fn greeted(words: &str, close: bool, limit: Duration) -> Result<u32, QmpError> {
    #[derive(Deserialize)]
    struct Answer {
        n: u32,
    }
    let (stream, talk) = peer(words, close);
    let asked = || {
        let mut client = Client::new(stream, &())?;
        client.greet(limit)?;
        client.ask::<Answer>("query-n", limit)
    };
    let answer = asked().map(|answer| answer.n);
    talk.join().expect("a peer");
    answer
}

const HELLO: &str = "{\"QMP\": {}}\r\n{\"return\": {}, \"id\": 1}\r\n";

#[test]
fn an_answer_is_found_between_events() {
    let event = "{\"timestamp\": {}, \"event\": \"SOMETHING_NEW\", \"data\": [1]}\n";
    let words = format!("{HELLO}{event}{event}{{\"return\": {{\"n\": 7, \"m\": 1}}, \"id\": 2}}\n");
    assert_eq!(greeted(&words, false, LONG), Ok(7));
}

#[test]
fn every_peer_that_is_no_qemu_ends_in_an_error() {
    let said = |found: &str| Err(QmpError::Strange(found.to_owned()));
    for (words, expected) in [
        ("".to_owned(), Err(QmpError::Closed)),
        (HELLO.to_owned(), Err(QmpError::Closed)),
        ("{\"QMP\"".to_owned(), Err(QmpError::Closed)),
        ("hello\n".to_owned(), said("\"hello\"")),
        ("\n".to_owned(), said("nothing")),
        ("{}\n".to_owned(), said("\"{}\"")),
        (format!("{HELLO}{{\"return\": 1}}\n"), said("\"{\\\"return\\\": 1}\"")),
        (
            format!("{HELLO}{{\"return\": {{\"n\": 1}}, \"id\": 9}}\n"),
            said("\"{\\\"return\\\": {\\\"n\\\": 1}, \\\"id\\\": 9}\""),
        ),
        (
            format!("{HELLO}{{\"error\": {{\"class\": \"C\", \"desc\": \"no\"}}, \"id\": 2}}\n"),
            Err(QmpError::Refused("\"C: no\"".to_owned())),
        ),
    ] {
        let answer = greeted(&words, expected == Err(QmpError::Closed), LONG);
        // The excerpt's own way to quote is not what is tested.
        match (&answer, &expected) {
            (Err(QmpError::Strange(_)), Err(QmpError::Strange(_))) => {}
            _ => assert_eq!(answer, expected, "{words:?}"),
        }
    }
    let deep = format!("{HELLO}{}\n", "[".repeat(100_000));
    assert!(matches!(greeted(&deep, false, LONG), Err(QmpError::Strange(_))));
}

#[test]
fn silence_ends_in_time() {
    assert_eq!(greeted("", false, SOON), Err(QmpError::Late(SOON)));
    assert_eq!(greeted(HELLO, false, SOON), Err(QmpError::Late(SOON)));
    assert_eq!(greeted("{\"QMP\"", false, SOON), Err(QmpError::Late(SOON)));
}

#[test]
fn a_line_without_an_end_is_given_up() {
    let (stream, talk) = peer(vec![b'x'; MAX_LINE * 2], true);
    let mut client = Client::new(stream, &()).expect("a client");
    assert_eq!(client.greet(LONG), Err(QmpError::TooLong));
    assert!(client.buffer.len() < MAX_LINE + (64 << 10));
    drop(client);
    talk.join().expect("a peer");
}

#[test]
fn a_peer_that_never_stops_talking_is_given_up_in_time() {
    let (mine, mut theirs) = UnixStream::pair().expect("a channel");
    let talk = thread::spawn(move || {
        let _ = theirs.write_all(HELLO.as_bytes());
        while theirs.write_all(b"{\"event\": \"E\"}\n").is_ok() {}
    });
    let mut client = Client::new(mine, &()).expect("a client");
    client.greet(LONG).expect("a greeting");
    assert_eq!(client.ask::<u32>("query-n", SOON), Err(QmpError::Late(SOON)));
    drop(client);
    talk.join().expect("a peer");
}
