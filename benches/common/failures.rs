//! Viewers that failed: all are counted, and of the first few it is told why.

/// Failures whose text is told; the others are counted.
const TOLD: usize = 3;

#[derive(Debug, Default)]
pub struct Failures {
    pub count: usize,
    pub texts: Vec<String>,
}

impl Failures {
    /// Another one.
    pub fn put(&mut self, error: &anyhow::Error) {
        self.count += 1;
        if self.texts.len() < TOLD {
            self.texts.push(format!("{error:#}"));
        }
    }

    /// Takes another thread's.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.texts.extend(other.texts.iter().take(TOLD.saturating_sub(self.texts.len())).cloned());
    }
}
