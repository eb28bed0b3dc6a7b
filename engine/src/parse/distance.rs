//! One node's row of distances. Source: `node<N>/distance`: `10 21 31`.

use super::{ParseError, number, trim_end};

/// Reads a row of `wanted` distances, a column for each online node in ascending order of ids.
///
/// Errors: another count, anything but numbers with blanks between, a number past 32 bits.
///
/// ```
/// use placer_engine::parse;
/// assert_eq!(parse::distance::parse(b"10 21\n", 2), Ok(vec![10, 21]));
/// let error = parse::distance::parse(b"10 x\n", 2).unwrap_err();
/// assert_eq!(error.to_string(), r#"1:4: expected 2 distances (one for each online node), found "x""#);
/// ```
pub fn parse(text: &[u8], wanted: usize) -> Result<Vec<u32>, ParseError> {
    let body = trim_end(text);
    let complaint = |at| {
        let s = if wanted == 1 { "" } else { "s" };
        ParseError::at(body, at, format!("{wanted} distance{s} (one for each online node)"))
    };
    let mut row = Vec::with_capacity(wanted.min(body.len()));
    let mut at = 0;
    loop {
        at += body[at..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if at == body.len() {
            return if row.len() == wanted { Ok(row) } else { Err(complaint(at)) };
        }
        let read = number(&body[at..]).and_then(|(value, n)| Some((u32::try_from(value).ok()?, n)));
        match read {
            Some((value, digits))
                if row.len() < wanted
                    && body.get(at + digits).is_none_or(|b| matches!(b, b' ' | b'\t')) =>
            {
                row.push(value);
                at += digits;
            }
            _ => return Err(complaint(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_rows() {
        assert_eq!(parse(b"10\n", 1), Ok(vec![10]));
        assert_eq!(parse(b"  10   300\t20 \n\0", 3), Ok(vec![10, 300, 20]));
        assert_eq!(parse(b"\n", 0), Ok(vec![]));
    }

    #[test]
    fn rows_too_short_too_long_or_damaged() {
        for (text, wanted, error) in [
            ("10 20\n", 3, "1:6: expected 3 distances (one for each online node), found nothing"),
            ("10 20\n", 1, "1:4: expected 1 distance (one for each online node), found \"20\""),
            ("10,20", 2, "1:1: expected 2 distances (one for each online node), found \"10,20\""),
            ("", 1, "1:1: expected 1 distance (one for each online node), found nothing"),
        ] {
            let read = parse(text.as_bytes(), wanted).map_err(|e| e.to_string());
            assert_eq!(read, Err(error.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), n in 0usize..9) {
            let _ = parse(&bytes, n);
        }
    }
}
