//! Parameters behind the `?` of a request, in the form that browsers and HTTP libraries write them.

/// The value of the first parameter called `name`; empty for one without a value, `None` where there is none.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

/// `+` is a blank, `%xx` a byte; what is no UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                match behind.split_first_chunk().and_then(|([high, low], behind)| Some((byte(*high, *low)?, behind))) {
                    Some((byte, behind)) => {
                        bytes.push(byte);
                        rest = behind;
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        let query = Some("url=mms%3A%2F%2Fh%2Fa+b%20%c3%a9&prefix=true&flag&x=%4&y=%zz");
        let value = |name| parameter(query, name);
        assert_eq!(value("url").as_deref(), Some("mms://h/a b é"));
        assert_eq!((value("prefix").as_deref(), value("flag").as_deref()), (Some("true"), Some("")));
        assert_eq!((value("x").as_deref(), value("y").as_deref()), (Some("%4"), Some("%zz")));
        assert_eq!((value("none"), parameter(None, "url")), (None, None));
    }

    proptest! {
        #[test]
        fn any_query_is_read(query in "\\PC{0,40}") {
            let _ = parameter(Some(&query), "url");
        }
    }
}
