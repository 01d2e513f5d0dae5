//! The picture of the generated content: colour bars, a ball that bounces before them, and a running clock, so that a
//! person sees at a glance that it lives, whether it is smooth, and what time of the content it shows.

use std::time::Duration;

use jpeg_encoder::{ColorType, Encoder, EncodingError, SamplingFactor};

/// Pixels.
pub(super) const WIDTH: u16 = 320;
/// Pixels.
pub(super) const HEIGHT: u16 = 240;

/// The picture at this time of the content, as one JPEG image.
pub(super) fn jpeg(time: Duration) -> Result<Vec<u8>, EncodingError> {
    let canvas = Canvas::at(time.as_millis());
    let mut image = Vec::new();
    let mut encoder = Encoder::new(&mut image, QUALITY);
    // What every MJPEG decoder of the time expects.
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(canvas.pixels.as_flattened(), WIDTH, HEIGHT, ColorType::Rgb)?;
    Ok(image)
}

type Colour = [u8; 3];

/// Pixels in rows from the top left.
struct Canvas {
    pixels: Vec<Colour>,
}

impl Canvas {
    fn at(ms: u128) -> Self {
        let mut canvas = Self { pixels: vec![PANEL; usize::from(WIDTH) * usize::from(HEIGHT)] };
        for (place, colour) in (0_i32..).zip(BARS) {
            canvas.fill(place * BAR, 0, BAR, PANEL_TOP, colour);
        }
        canvas.ball(ms);
        // Fills once a second: a missing picture shows as a jump.
        let swept = (ms % 1000) as i32 * i32::from(WIDTH) / 1000;
        canvas.fill(0, PANEL_TOP, swept, DOT, SWEEP);
        canvas.clock(ms);
        canvas
    }

    /// From left to right and back in 4 s, up and down in 1.6 s: 16 s hold a whole number of both.
    fn ball(&mut self, ms: u128) {
        let across = (ms % 4000) as f64 / 2000.0;
        let across = if across > 1.0 { 2.0 - across } else { across };
        let up = (ms % 1600) as f64 / 800.0 - 1.0;
        let x = RADIUS + (across * f64::from(i32::from(WIDTH) - 2 * RADIUS)) as i32;
        let y = RADIUS + (up * up * f64::from(PANEL_TOP - 2 * RADIUS)) as i32;
        self.disc(x, y, RADIUS, PANEL);
        self.disc(x, y, RADIUS - 3, BALL);
    }

    /// Minutes, seconds and tenths.
    fn clock(&mut self, ms: u128) {
        let text = format!("{:02}:{:02}.{}", ms / 60_000 % 100, ms / 1000 % 60, ms / 100 % 10);
        let mut left = CLOCK_LEFT;
        for character in text.chars() {
            for (row, dots) in (0_i32..).zip(glyph(character)) {
                for column in (0..3).filter(|column| dots >> (2 - column) & 1 == 1) {
                    self.fill(left + column * DOT, CLOCK_TOP + row * DOT, DOT, DOT, CLOCK);
                }
            }
            left += GLYPH_STEP;
        }
    }

    fn disc(&mut self, x: i32, y: i32, radius: i32, colour: Colour) {
        for row in -radius..=radius {
            let half = f64::from(radius * radius - row * row).sqrt() as i32;
            self.fill(x - half, y + row, 2 * half + 1, 1, colour);
        }
    }

    /// What lies outside the canvas is cut off.
    fn fill(&mut self, left: i32, top: i32, width: i32, height: i32, colour: Colour) {
        let columns = clamped(left, WIDTH)..clamped(left + width, WIDTH);
        let rows = self.pixels.chunks_exact_mut(WIDTH.into());
        for row in rows.take(clamped(top + height, HEIGHT)).skip(clamped(top, HEIGHT)) {
            row.get_mut(columns.clone()).unwrap_or_default().fill(colour);
        }
    }
}

fn clamped(at: i32, most: u16) -> usize {
    at.clamp(0, most.into()) as usize
}

/// Five rows of three dots; the highest of the three bits is the left one.
fn glyph(character: char) -> [u8; 5] {
    match character {
        '0' => [0b111, 0b101, 0b101, 0b101, 0b111],
        '1' => [0b010, 0b110, 0b010, 0b010, 0b111],
        '2' => [0b111, 0b001, 0b111, 0b100, 0b111],
        '3' => [0b111, 0b001, 0b111, 0b001, 0b111],
        '4' => [0b101, 0b101, 0b111, 0b001, 0b001],
        '5' => [0b111, 0b100, 0b111, 0b001, 0b111],
        '6' => [0b111, 0b100, 0b111, 0b101, 0b111],
        '7' => [0b111, 0b001, 0b010, 0b010, 0b010],
        '8' => [0b111, 0b101, 0b111, 0b101, 0b111],
        '9' => [0b111, 0b101, 0b111, 0b001, 0b111],
        ':' => [0b000, 0b010, 0b000, 0b010, 0b000],
        '.' => [0b000, 0b000, 0b000, 0b000, 0b010],
        _ => [0; 5],
    }
}

/// White, yellow, cyan, green, magenta, red, blue at 75 %, as test cards have them.
const BARS: [Colour; 7] =
    [[191, 191, 191], [191, 191, 0], [0, 191, 191], [0, 191, 0], [191, 0, 191], [191, 0, 0], [0, 0, 191]];
const PANEL: Colour = [16, 20, 36];
const SWEEP: Colour = [255, 160, 0];
const CLOCK: Colour = [240, 240, 240];
const BALL: Colour = [255, 255, 255];

const RADIUS: i32 = 22;
const PANEL_TOP: i32 = 160;
const CLOCK_TOP: i32 = 184;
const CLOCK_LEFT: i32 = 48;
/// Side of a dot of the digits. JPEG codes blocks of this size: what keeps to their borders costs next to nothing.
const DOT: i32 = 8;
/// Width of a bar, for the same reason; the last is a little narrower.
const BAR: i32 = 48;
const GLYPH_STEP: i32 = 4 * DOT;
/// JPEG quality, 1 to 100: about 3 KB a picture.
const QUALITY: u8 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_whole_jpeg_image_of_the_promised_size() {
        let image = jpeg(Duration::ZERO).unwrap();
        assert!(image.starts_with(&[0xFF, 0xD8]) && image.ends_with(&[0xFF, 0xD9]));
        let frame = image.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
        assert_eq!(image[frame + 5..frame + 9], [0, 240, 1, 64]);
    }

    #[test]
    fn the_clock_and_the_ball_move() {
        let shown = |ms| Canvas::at(ms).pixels;
        assert_ne!(shown(0), shown(80));
        assert_eq!(shown(1234), shown(1234));
    }

    #[test]
    fn a_loop_of_16_s_differs_at_its_seam_in_the_clock_alone() {
        let (begin, end) = (Canvas::at(0).pixels, Canvas::at(16_000).pixels);
        let panel = usize::from(WIDTH) * PANEL_TOP as usize;
        assert_eq!(begin[..panel], end[..panel]);
    }
}
