use super::*;

#[test]
fn each_name_has_a_file_of_its_own() {
    let long = "x".repeat(GuestName::MAX + 1);
    let all = ["web", "a/b", "a/c", "../../x", &long].map(|name| key("guest", name));
    assert_eq!(all[0], "guest-web");
    for (at, one) in all.iter().enumerate() {
        assert!(one.len() < 200 && !one.contains('/'), "{one}");
        assert!(!all[..at].contains(one), "{one}");
    }
}

#[test]
fn what_a_guest_inherits_cannot_be_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let guest: GuestName = "web".parse().unwrap();
    let lock = GuestLock::one(dir.path().join("web.lock"), &guest).unwrap();
    lock.sign(4242);
    assert!(lock.file.write_all_at(b"x", 0).is_err());
    let error = GuestLock::one(dir.path().join("web.lock"), &guest).unwrap_err().to_string();
    assert!(error.contains("it runs already, as process 4242"), "{error}");
    // Another descriptor of it holds it too.
    let shared = lock.shared().unwrap();
    drop(lock.file.try_clone().unwrap());
    assert!(Live.lock(shared.as_fd()).is_ok());
}
