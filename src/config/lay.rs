//! Settings laid over the defaults, one by one, so that a wrong one is named and the others are still looked at.
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::{Fault, Place};
use super::nearest::nearest;
use super::tree::{Node, Yaml};
use super::{Config, ConfigError, Faults, PREFIX, Route, check, tree};

/// The config while it comes together.
pub(super) struct Settings {
    source_name: String,
    defaults: Value,
    default_route: Value,
    value: Value,
    /// Where each key was set.
    places: HashMap<String, Place>,
    faults: Vec<Fault>,
}

/// A key, as shown (`routes[2].origin`) and in a config of defaults with one route (`/routes/0/origin`).
#[derive(Clone)]
struct Key {
    shown: String,
    pointer: String,
}

impl Key {
    fn root() -> Self {
        Self { shown: String::new(), pointer: String::new() }
    }

    fn below(&self, key: &str) -> Self {
        let dot = if self.shown.is_empty() { "" } else { "." };
        Self { shown: format!("{}{dot}{key}", self.shown), pointer: format!("{}/{key}", self.pointer) }
    }

    fn item(&self, index: usize) -> Self {
        Self { shown: format!("{}[{index}]", self.shown), pointer: format!("{}/0", self.pointer) }
    }
}

/// A config as a tree of its keys, in the order of the struct.
pub(super) fn tree_of(settings: &impl serde::Serialize) -> Result<Value, ConfigError> {
    serde_json::to_value(settings).map_err(|error| ConfigError::Unwritable(error.to_string()))
}

impl Settings {
    pub(super) fn new(source_name: &str) -> Result<Self, ConfigError> {
        let defaults = tree_of(&Config::default())?;
        Ok(Self {
            source_name: source_name.into(),
            default_route: tree_of(&Route::default())?,
            value: defaults.clone(),
            defaults,
            places: HashMap::new(),
            faults: Vec::new(),
        })
    }

    pub(super) fn lay_file(&mut self, text: &str) {
        match tree::parse(text) {
            Ok(node) => {
                let mut value = std::mem::take(&mut self.value);
                self.lay(&Key::root(), &node, None, &mut value, &self.defaults.clone());
                self.value = value;
            }
            Err(error) => {
                let source_name = self.source_name.clone();
                self.faults.push(Fault::new(&source_name, error.line, String::new(), error.reason));
            }
        }
    }

    /// Others' variables are left alone.
    pub(super) fn lay_variable(&mut self, variable: &str, text: &str) {
        let Some(path) = variable.strip_prefix(PREFIX) else {
            return;
        };
        let mut key = Key::root();
        let mut schema = &self.defaults;
        for step in path.to_lowercase().split("__") {
            let Some(below) = schema.get(step) else {
                let known: Vec<String> = known_keys(schema).map(|known| key.below(known).shown).collect();
                let reason = match nearest(step, known.iter().map(String::as_str)) {
                    Some(near) => {
                        format!("unknown key; did you mean {PREFIX}{}?", near.to_uppercase().replace('.', "__"))
                    }
                    None => "unknown key".into(),
                };
                return self.fault(Some(variable), 0, &key.below(step), reason);
            };
            schema = below;
            key = key.below(step);
        }
        let schema = schema.clone();
        match tree::parse(text) {
            Ok(node) => {
                let mut value = std::mem::take(&mut self.value);
                if let Some(target) = value.pointer_mut(&key.pointer) {
                    self.lay(&key, &node, Some(variable), target, &schema);
                }
                self.value = value;
            }
            Err(error) => self.fault(Some(variable), 0, &key, error.reason),
        }
    }

    /// The config, if neither what was laid nor the whole has a fault.
    pub(super) fn finish(mut self) -> Result<Config, ConfigError> {
        let config: Config =
            serde_json::from_value(self.value.clone()).map_err(|error| ConfigError::Unwritable(error.to_string()))?;
        let laid_well = self.faults.is_empty();
        for (key, reason) in check::faults(&config) {
            // A key that is missing may be one whose name was mistyped.
            if laid_well || self.places.contains_key(&key) {
                let place = self.place_of(&key);
                self.faults.push(Fault::at(place, key, reason));
            }
        }
        if self.faults.is_empty() { Ok(config) } else { Err(Faults::new(&self.source_name, self.faults).into()) }
    }

    fn lay(&mut self, key: &Key, node: &Node, variable: Option<&str>, target: &mut Value, schema: &Value) {
        self.places.insert(key.shown.clone(), self.place(variable, node.line));
        match (schema, &node.value) {
            (Value::Object(_), Yaml::Map(entries)) => {
                for (name, value) in entries {
                    let key = key.below(name);
                    match (schema.get(name), target.get_mut(name)) {
                        (Some(schema), Some(target)) => self.lay(&key, value, variable, target, schema),
                        _ => self.fault(variable, value.line, &key, unknown(name, schema, &self.defaults)),
                    }
                }
            }
            // A section or list of which every line is commented out.
            (Value::Object(_) | Value::Array(_), Yaml::Scalar(Value::Null, _)) => {}
            (Value::Object(_), _) => {
                let known: Vec<&str> = known_keys(schema).collect();
                self.fault(variable, node.line, key, format!("want keys below it: {}", known.join(", ")));
            }
            (Value::Array(_), Yaml::Seq(items)) if key.pointer == "/routes" => {
                let lay_route = |(index, item): (usize, &Node)| {
                    let mut route = self.default_route.clone();
                    self.lay(&key.item(index), item, variable, &mut route, &self.default_route.clone());
                    route
                };
                *target = items.iter().enumerate().map(lay_route).collect();
            }
            (Value::Array(_), Yaml::Seq(items)) => {
                let lay_item = |(index, item): (usize, &Node)| {
                    let at = key.item(index);
                    self.places.insert(at.shown.clone(), self.place(variable, item.line));
                    match self.fitting(item, &key.pointer, |value| Value::Array(vec![value])) {
                        Ok(value) => Some(value),
                        Err(reason) => {
                            self.fault(variable, item.line, &at, reason);
                            None
                        }
                    }
                };
                *target = items.iter().enumerate().filter_map(lay_item).collect();
            }
            (Value::Array(_), Yaml::Scalar(_, text)) => {
                self.fault(variable, node.line, key, format!("want a list, as in [\"{text}\"]"));
            }
            _ => match self.fitting(node, &key.pointer, |value| value) {
                Ok(value) => *target = value,
                Err(reason) => self.fault(variable, node.line, key, reason),
            },
        }
    }

    /// The value as its setting takes it: as YAML sees it, else as the text it is.
    fn fitting(&self, node: &Node, pointer: &str, wrap: fn(Value) -> Value) -> Result<Value, String> {
        let Yaml::Scalar(value, text) = &node.value else {
            return Err("want a single value".into());
        };
        if value.is_null() {
            return Err("has no value; leave the key out for its default".into());
        }
        let as_seen = self.fits(pointer, wrap(value.clone()));
        let reason = match as_seen {
            Ok(()) => return Ok(value.clone()),
            Err(reason) if value.is_string() => reason,
            Err(_) => match self.fits(pointer, wrap(Value::String(text.clone()))) {
                Ok(()) => return Ok(Value::String(text.clone())),
                Err(reason) => reason,
            },
        };
        Err(match self.defaults.pointer(pointer) {
            Some(Value::Bool(_)) => format!("`{text}` is neither true nor false"),
            Some(Value::Number(_)) => format!("`{text}` is no whole number from 0 to {}", u32::MAX),
            _ => readable(&reason),
        })
    }

    /// Is a config of defaults still one with this value in it?
    fn fits(&self, pointer: &str, value: Value) -> Result<(), String> {
        let mut probe = self.defaults.clone();
        if let Some(routes) = probe.get_mut("routes").filter(|_| pointer.starts_with("/routes/")) {
            *routes = Value::Array(vec![self.default_route.clone()]);
        }
        if let Some(target) = probe.pointer_mut(pointer) {
            *target = value;
        }
        serde_json::from_value::<Config>(probe).map(drop).map_err(|error| error.to_string())
    }

    fn place(&self, variable: Option<&str>, line: u64) -> Place {
        match variable {
            Some(variable) => Place::Variable(variable.into()),
            None => Place::File { source_name: self.source_name.clone(), line: Some(line).filter(|&line| line > 0) },
        }
    }

    /// Where a key was set, or the nearest above it that was.
    fn place_of(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            match self.places.get(key) {
                Some(place) if !key.is_empty() => return place.clone(),
                _ => match key.rfind(['.', '[']).and_then(|at| key.get(..at)) {
                    Some(above) => key = above,
                    None => {
                        return Place::File { source_name: self.source_name.clone(), line: None };
                    }
                },
            }
        }
    }

    fn fault(&mut self, variable: Option<&str>, line: u64, key: &Key, reason: String) {
        self.faults.push(Fault::at(self.place(variable, line), key.shown.clone(), reason));
    }
}

fn known_keys(schema: &Value) -> impl Iterator<Item = &str> {
    schema.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
}

/// The nearest key of the section; else one of that name in another; else all that the section has.
fn unknown(name: &str, section: &Value, defaults: &Value) -> String {
    if let Some(near) = nearest(name, known_keys(section)) {
        return format!("unknown key; did you mean `{near}`?");
    }
    let elsewhere = known_keys(defaults)
        .filter_map(|section| Some((section, defaults.get(section)?)))
        .flat_map(|(section, keys)| known_keys(keys).map(move |key| format!("{section}.{key}")))
        .find(|path| path.rsplit('.').next() == Some(name));
    match elsewhere {
        Some(path) => format!("unknown key; did you mean `{path}`?"),
        None => format!("unknown key; known here: {}", known_keys(section).collect::<Vec<_>>().join(", ")),
    }
}

/// serde's words for a value that is not in an enum, in ours.
fn readable(reason: &str) -> String {
    match reason.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected ")) {
        Some((value, wanted)) => format!("{value} is unknown here, want {}", wanted.trim_start_matches("one of ")),
        None => reason.into(),
    }
}
