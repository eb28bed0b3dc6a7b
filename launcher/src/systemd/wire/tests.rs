use proptest::prelude::*;

use super::*;
use testkit::bus::message;

fn hello() -> Call<'static> {
    Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
        signature: "",
        body: Vec::new(),
    }
}

#[test]
fn a_call_is_sent_as_the_specification_has_it() {
    let bytes = hello().to_bytes(1);
    let text: String = bytes
        .iter()
        .map(|&byte| match byte {
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("<{byte}>"),
        })
        .collect();
    // As other clients send it, byte for byte.
    let wanted = "l<1><0><1><0><0><0><0><1><0><0><0>m<0><0><0>\
        <1><1>o<0><21><0><0><0>/org/freedesktop/DBus<0><0><0>\
        <2><1>s<0><20><0><0><0>org.freedesktop.DBus<0><0><0><0>\
        <3><1>s<0><5><0><0><0>Hello<0><0><0>\
        <6><1>s<0><20><0><0><0>org.freedesktop.DBus<0><0><0><0>";
    assert_eq!(text, wanted);
    assert_eq!(size(&bytes[..PROLOGUE]), Ok(bytes.len()));
}

#[test]
fn messages_are_read_in_both_orders_of_bytes() {
    let mut body = Writer::default();
    body.number(9);
    ["/job/9", "a.scope", "done"].iter().for_each(|text| body.text(text));
    let bytes = message(4, &[(3, "JobRemoved"), (8, "uoss"), (7, ":1.2")], 0, body.end());
    let read = Message::parse(&bytes).unwrap();
    assert_eq!((read.kind, read.member.as_str()), (Kind::Signal, "JobRemoved"));
    assert_eq!(read.texts(), ["/job/9", "a.scope", "done"]);

    // The same from a machine of the other kind: an error of no words, in answer to call 3.
    let big = [
        &b"B\x03\x01\x01\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x15"[..],
        b"\x04\x01s\x00\x00\x00\x00\x03a.b\x00\x00\x00\x00\x00\x05\x01u\x00\x00\x00\x00\x03",
    ]
    .concat();
    let mut big = big;
    big[15] = u8::try_from(big.len() - PROLOGUE).unwrap();
    let read = Message::parse(&big);
    let read = read.unwrap();
    assert_eq!((read.kind, read.error.as_str(), read.reply_to), (Kind::Error, "a.b", Some(3)));
}

#[test]
fn lengths_that_no_message_has_are_refused_before_anything_is_read() {
    let mut bytes = hello().to_bytes(1);
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(size(&bytes[..PROLOGUE]), Err(Strange("a message of at most 1 MiB")));
    assert!(Message::parse(&bytes).is_err());
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(size(&bytes[..PROLOGUE]).is_err());
    assert_eq!(size(b"HTTP/1.1 400 Bad"), Err(Strange("a message of D-Bus")));
}

#[test]
fn cut_messages_are_errors() {
    let mut body = Writer::default();
    body.text("/job/9");
    let bytes = message(2, &[(8, "o")], 4, body.end());
    assert_eq!(Message::parse(&bytes).unwrap().texts(), ["/job/9"]);
    for end in 0..bytes.len() {
        assert!(Message::parse(&bytes[..end]).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..200,
        with in any::<u8>(),
    ) {
        let _ = Message::parse(&bytes).map(|message| message.texts().len());
        let mut bytes = message(4, &[(3, "JobRemoved"), (8, "uoss")], 0, bytes);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        let _ = size(&bytes[..PROLOGUE]);
        let _ = Message::parse(&bytes).map(|message| message.texts().len());
    }
}
