//! YAML as a tree that knows its lines. The only file that knows the YAML library.
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_yaml::Spanned;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub line: u64,
    pub value: Yaml,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Yaml {
    /// What YAML takes the text for, and the text: a setting may be a text where YAML sees a number.
    Scalar(Value, String),
    Seq(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Why a text is no YAML.
#[derive(Debug)]
pub(super) struct NotYaml {
    pub line: Option<u64>,
    /// The reason in a line, then an excerpt.
    pub reason: String,
}

/// Reads a text; an empty one is a null.
pub(super) fn parse(text: &str) -> Result<Node, NotYaml> {
    let options = serde_yaml::options! { strict_booleans: true };
    let tree: Spanned<Raw> = serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let rendered = error.to_string();
        // Its first lines say again what stands before the excerpt.
        let excerpt = rendered.lines().skip_while(|line| !line.trim_end().ends_with('|'));
        let lines = std::iter::once(error.without_snippet().to_string()).chain(excerpt.map(String::from));
        NotYaml {
            line: error.location().map(|location| location.line()),
            reason: lines.collect::<Vec<_>>().join("\n").trim_end().into(),
        }
    })?;
    Ok(node(tree, text))
}

/// As it comes from the library: spans are known only beside each value.
enum Raw {
    Scalar(Value),
    Seq(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let line = raw.referenced.line();
    let value = match raw.value {
        Raw::Scalar(Value::String(string)) => Yaml::Scalar(Value::String(string.clone()), string),
        Raw::Scalar(value) => {
            let written = written(&raw.defined, text).unwrap_or_else(|| value.to_string());
            Yaml::Scalar(value, written)
        }
        Raw::Seq(items) => Yaml::Seq(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                let mut value = node(value, text);
                // The line of the key: a block below it begins later.
                value.line = key.referenced.line();
                (key.value, value)
            };
            Yaml::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { line, value }
}

fn written(at: &serde_yaml::Location, text: &str) -> Option<String> {
    let (start, length) = (at.span().byte_offset()?, at.span().byte_len()?);
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    text.get(start..end).map(|written| written.trim().to_string())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or keys with values")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value).map(|number| Raw::Scalar(number.into())).ok_or_else(|| E::custom("no finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            if entries.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!("the key `{}` stands here twice", key.value)));
            }
            entries.push((key, value));
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(line: u64, value: impl Into<Value>, text: &str) -> Node {
        Node { line, value: Yaml::Scalar(value.into(), text.into()) }
    }

    #[test]
    fn each_value_knows_its_line_and_its_text() {
        let text = "name: 1_0\n# é\nlimits:\n  idle: 1h # long\n  viewers:\n    4.10\nlist: [a, 'b', true]\n";
        let Yaml::Map(entries) = parse(text).unwrap().value else { panic!("no map") };
        assert_eq!(entries[0], ("name".into(), scalar(1, 10, "1_0")));
        let (_, Node { line: 3, value: Yaml::Map(limits) }) = &entries[1] else { panic!("{entries:?}") };
        assert_eq!(limits[0], ("idle".into(), scalar(4, "1h", "1h")));
        assert_eq!(limits[1], ("viewers".into(), scalar(5, 4.1, "4.10")));
        let list = Yaml::Seq(vec![scalar(7, "a", "a"), scalar(7, "b", "b"), scalar(7, true, "true")]);
        assert_eq!(entries[2], ("list".into(), Node { line: 7, value: list }));
        assert_eq!(parse("").unwrap().value, Yaml::Scalar(Value::Null, String::new()));
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        for (text, line) in [("a: 1\n\tb: 2\n", 1), ("a: 1\na: 2\n", 2), ("a: [1\nb: 2\n", 2), ("a: 1\n--- x\n", 2)] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{}", error.reason);
        }
    }
}
