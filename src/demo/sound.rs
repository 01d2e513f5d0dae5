//! The sound of the generated content: a small tune on bells, eight seconds long, over and over. PCM, so that every
//! player has the decoder.

use std::f64::consts::TAU;

/// Samples per second, mono, 16 bits each.
pub(super) const SAMPLE_RATE: u32 = 11_025;

/// `count` samples from the one numbered `first` on, little-endian.
pub(super) fn pcm(first: u64, count: u64) -> Vec<u8> {
    (first..first + count).flat_map(|number| sample(number).to_le_bytes()).collect()
}

fn sample(number: u64) -> i16 {
    let time = (number % (TUNE_SECONDS * u64::from(SAMPLE_RATE))) as f64 / f64::from(SAMPLE_RATE);
    let tune = voice(&TUNE, NOTE_SECONDS, time, MIDDLE_C * 2.0, 5.0);
    let bass = voice(&BASS, NOTE_SECONDS * 8.0, time, MIDDLE_C / 2.0, 1.5);
    ((tune * 0.22 + bass * 0.2) * f64::from(i16::MAX)) as i16
}

/// The notes struck so far, each fading away; `None` is a rest. Semitones above `base` Hz.
fn voice(notes: &[Option<u8>], seconds: f64, time: f64, base: f64, fading: f64) -> f64 {
    let struck = notes.iter().zip(0_u32..).map(|(note, place)| (note, time - f64::from(place) * seconds));
    struck
        .filter(|&(_, since)| (0.0..AUDIBLE_SECONDS).contains(&since))
        .filter_map(|(note, since)| Some(bell(base * (f64::from((*note)?) / 12.0).exp2(), since, fading)))
        .sum()
}

/// A struck bar, `since` seconds ago.
fn bell(frequency: f64, since: f64, fading: f64) -> f64 {
    let attack = (since / 0.004).min(1.0);
    let partial = |number: f64| (TAU * frequency * number * since).sin() * (-fading * number * since).exp();
    attack * (partial(1.0) + 0.35 * partial(2.0) + 0.12 * partial(3.0))
}

/// Hz.
const MIDDLE_C: f64 = 261.63;
const TUNE_SECONDS: u64 = 8;
const NOTE_SECONDS: f64 = 0.25;
/// After that nothing is heard of a note.
const AUDIBLE_SECONDS: f64 = 2.0;
/// The rests at the end let the last note fade before the tune begins anew.
#[rustfmt::skip]
const TUNE: [Option<u8>; 32] = [
    Some(0), None,    Some(4), Some(7), Some(9),  None, Some(7), None,
    Some(4), None,    Some(7), Some(4), Some(2),  None, None,    None,
    Some(0), None,    Some(4), Some(7), Some(12), None, Some(9), None,
    Some(7), Some(4), Some(2), Some(4), Some(0),  None, None,    None,
];
const BASS: [Option<u8>; 4] = [Some(0), Some(7), Some(9), Some(0)];

#[cfg(test)]
mod tests {
    use super::*;

    fn loudest(samples: &[u8]) -> u16 {
        samples.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]]).unsigned_abs()).max().unwrap()
    }

    #[test]
    fn it_is_heard_but_never_clips() {
        let all = pcm(0, 8 * u64::from(SAMPLE_RATE));
        assert!((5_000..30_000).contains(&loudest(&all)), "{}", loudest(&all));
    }

    #[test]
    fn it_is_all_but_silent_where_it_begins_anew() {
        let end = 8 * u64::from(SAMPLE_RATE);
        assert!(loudest(&pcm(end - 200, 200)) < 800);
        assert!(loudest(&pcm(end, 1)) < 800);
        assert_eq!(pcm(0, 500), pcm(end, 500));
    }
}
