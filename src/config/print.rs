//! A tree of settings as YAML. By hand: the YAML library is taken for reading only, and the tree has few shapes.
use serde_json::Value;

use super::tree::{self, Yaml};

/// One key a line; short lists in brackets.
pub(super) fn yaml(settings: &Value) -> String {
    let mut out = String::new();
    write_keys(settings, "", &mut out);
    out
}

fn write_keys(value: &Value, indent: &str, out: &mut String) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let is_section = value.as_object().is_some_and(|keys| !keys.is_empty());
        let maps = value.as_array().filter(|items| items.iter().any(Value::is_object));
        if is_section {
            out.push_str(&format!("{indent}{key}:\n"));
            write_keys(value, &format!("{indent}  "), out);
        } else if let Some(items) = maps {
            out.push_str(&format!("{indent}{key}:\n"));
            for item in items {
                let mut keys = String::new();
                write_keys(item, &format!("{indent}    "), &mut keys);
                out.push_str(&format!("{indent}  - {}", keys.trim_start()));
            }
        } else {
            out.push_str(&format!("{indent}{key}: {}\n", flow(value)));
        }
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if reads_as_itself(text) => text.clone(),
        // A JSON string is a double-quoted one of YAML.
        other => other.to_string(),
    }
}

fn reads_as_itself(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '%');
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let is_text = || matches!(tree::parse(text), Ok(node) if node.value == Yaml::Scalar(text.into(), text.into()));
    // YAML 1.1 readers take these for booleans.
    let words = ["y", "n", "yes", "no", "on", "off"];
    starts_plain && text.chars().all(plain) && !words.contains(&text.to_lowercase().as_str()) && is_text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_quoted_where_they_would_read_as_something_else() {
        let tree = json!({
            "plain": "10s", "empty": "", "number": "4.1", "word": "true", "old": "off", "spaced": "a b", "quote": "a\"\n\u{7f}",
            "list": ["*", "x"], "none": [], "section": { "rate": "10%", "n": 5 },
            "maps": [{ "a": 1, "b": "/" }, { "a": 2, "b": "x" }],
        });
        let written = yaml(&tree);
        let expected = "plain: 10s\nempty: \"\"\nnumber: \"4.1\"\nword: \"true\"\nold: \"off\"\nspaced: \"a b\"\n\
            quote: \"a\\\"\\n\u{7f}\"\nlist: [\"*\", x]\nnone: []\nsection:\n  rate: 10%\n  n: 5\n\
            maps:\n  - a: 1\n    b: /\n  - a: 2\n    b: x\n";
        assert_eq!(written, expected);
    }
}
