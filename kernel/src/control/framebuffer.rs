//! Text on a linear framebuffer, for machines without a serial port.
//!
//! Framebuffer memory is slow to write and far slower to read. The characters on the screen are therefore
//! kept beside it, nothing is ever read back, and scrolling draws only the cells that change.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;
/// Pixels that a character is wide.
pub const CELL_WIDTH: usize = get_raster_width(WEIGHT, HEIGHT);
/// Pixels that a character is high.
pub const CELL_HEIGHT: usize = HEIGHT.val();
/// Columns between tab stops.
const TAB: usize = 8;
const BLANK: u8 = b' ';
/// Shown for what the font does not have.
const UNKNOWN: u8 = b'?';

/// What the bytes of a pixel mean, lowest address first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelOrder {
    /// Red, green, blue, and unused bytes.
    Rgb,
    /// Blue, green, red, and unused bytes.
    Bgr,
    /// Brightness, and unused bytes.
    Grey,
}

impl PixelOrder {
    /// Bytes of a pixel that carry colour.
    const fn colour_bytes(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// The shape of a framebuffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Visible pixels in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Pixels from the start of a line to the start of the next.
    pub stride: usize,
    /// Bytes of a pixel.
    pub bytes_per_pixel: usize,
    /// What they mean.
    pub order: PixelOrder,
}

impl Geometry {
    /// Characters in a line, and lines.
    pub const fn characters(&self) -> (usize, usize) {
        (self.width / CELL_WIDTH, self.height / CELL_HEIGHT)
    }

    /// Bytes from the first pixel to behind the last; `None` when the numbers contradict each other.
    fn bytes(&self) -> Option<usize> {
        if self.width > self.stride || self.bytes_per_pixel < self.order.colour_bytes() {
            return None;
        }
        self.stride.checked_mul(self.height)?.checked_mul(self.bytes_per_pixel)
    }
}

/// A text console on a framebuffer. It wraps long lines and scrolls.
pub struct TextScreen<'a> {
    pixels: &'a mut [u8],
    geometry: Geometry,
    columns: usize,
    rows: usize,
    /// What is on the screen, row after row; ASCII.
    cells: Vec<u8>,
    column: usize,
    row: usize,
}

impl<'a> TextScreen<'a> {
    /// A blank screen; `None` when `pixels` is too small for `geometry`, or that for one character.
    pub fn new(pixels: &'a mut [u8], geometry: Geometry) -> Option<Self> {
        let pixels = pixels.get_mut(..geometry.bytes()?)?;
        let (columns, rows) = geometry.characters();
        if columns == 0 || rows == 0 {
            return None;
        }
        pixels.fill(0);
        let cells = vec![BLANK; columns * rows];
        Some(Self { pixels, geometry, columns, rows, cells, column: 0, row: 0 })
    }

    /// Characters in a line, and lines.
    pub const fn size(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    fn put(&mut self, character: char) {
        match character {
            '\n' => self.new_line(),
            '\r' => self.column = 0,
            '\t' => {
                let stop = (self.column / TAB + 1) * TAB;
                while self.column < stop.min(self.columns) {
                    self.put_visible(BLANK);
                }
            }
            ' '..='~' => self.put_visible(character as u8),
            _ => self.put_visible(UNKNOWN),
        }
    }

    fn put_visible(&mut self, character: u8) {
        if self.column >= self.columns {
            self.new_line();
        }
        self.show(self.column, self.row, character);
        self.column += 1;
    }

    fn new_line(&mut self) {
        self.column = 0;
        if self.row + 1 < self.rows {
            self.row += 1;
        } else {
            self.scroll();
        }
    }

    fn scroll(&mut self) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let below = (row + 1) * self.columns + column;
                let character = self.cells.get(below).copied().unwrap_or(BLANK);
                self.show(column, row, character);
            }
        }
    }

    /// Puts a character in a cell, and draws it if another was there.
    fn show(&mut self, column: usize, row: usize, character: u8) {
        let Some(cell) = self.cells.get_mut(row * self.columns + column) else { return };
        if *cell != character {
            *cell = character;
            self.draw(column, row, character);
        }
    }

    fn draw(&mut self, column: usize, row: usize, character: u8) {
        let Some(glyph) = get_raster(char::from(character), WEIGHT, HEIGHT) else { return };
        let pixel_bytes = self.geometry.bytes_per_pixel;
        let line_bytes = self.geometry.stride * pixel_bytes;
        let start = row * CELL_HEIGHT * line_bytes + column * CELL_WIDTH * pixel_bytes;
        let lines = self.pixels[start..].chunks_mut(line_bytes);
        for (line, intensities) in lines.zip(glyph.raster()) {
            for (pixel, intensity) in line.chunks_exact_mut(pixel_bytes).zip(*intensities) {
                // White on black: the order of the colours makes no difference to it.
                pixel[..self.geometry.order.colour_bytes()].fill(*intensity);
            }
        }
    }
}

impl fmt::Write for TextScreen<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|character| self.put(character));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;
    use proptest::prelude::*;
    use std::string::String;

    const COLUMNS: usize = 12;
    const ROWS: usize = 3;
    /// Part of a cell is left over at the right and at the bottom, and lines have unseen pixels behind them.
    const GEOMETRY: Geometry = Geometry {
        width: COLUMNS * CELL_WIDTH + 3,
        height: ROWS * CELL_HEIGHT + 5,
        stride: COLUMNS * CELL_WIDTH + 10,
        bytes_per_pixel: 4,
        order: PixelOrder::Bgr,
    };

    fn drawn(geometry: Geometry, text: &str) -> Vec<u8> {
        let mut pixels = vec![0x55; geometry.bytes().unwrap()];
        TextScreen::new(&mut pixels, geometry).unwrap().write_str(text).unwrap();
        pixels
    }

    /// The brightness of the pixels in a cell, read without the code under test.
    fn cell(pixels: &[u8], geometry: Geometry, column: usize, row: usize) -> Vec<u8> {
        let mut cell = Vec::new();
        for y in row * CELL_HEIGHT..(row + 1) * CELL_HEIGHT {
            for x in column * CELL_WIDTH..(column + 1) * CELL_WIDTH {
                cell.push(pixels[(y * geometry.stride + x) * geometry.bytes_per_pixel]);
            }
        }
        cell
    }

    fn glyph(character: char) -> Vec<u8> {
        get_raster(character, WEIGHT, HEIGHT).unwrap().raster().concat()
    }

    /// What is on the screen, recognised from its pixels.
    fn recognise(pixels: &[u8], geometry: Geometry) -> Vec<String> {
        let read = |column, row| {
            let cell = cell(pixels, geometry, column, row);
            (' '..='~').find(|character| glyph(*character) == cell).unwrap()
        };
        (0..ROWS).map(|row| (0..COLUMNS).map(|column| read(column, row)).collect()).collect()
    }

    #[test]
    fn ink_is_where_the_character_is_and_nowhere_else() {
        let pixels = drawn(GEOMETRY, "\n  M");
        assert_eq!(cell(&pixels, GEOMETRY, 2, 1), glyph('M'));
        assert!(glyph('M').iter().any(|brightness| *brightness > 200));
        let inked = pixels.iter().filter(|byte| **byte != 0).count();
        assert_eq!(inked, 3 * glyph('M').iter().filter(|brightness| **brightness != 0).count());
        // Blue, green and red alike, and nothing in the fourth byte.
        for pixel in pixels.chunks_exact(4) {
            assert!(pixel[0] == pixel[1] && pixel[1] == pixel[2] && pixel[3] == 0);
        }
    }

    #[test]
    fn other_pixel_formats() {
        let rgb = Geometry { bytes_per_pixel: 3, order: PixelOrder::Rgb, ..GEOMETRY };
        let grey = Geometry { bytes_per_pixel: 1, order: PixelOrder::Grey, ..GEOMETRY };
        for geometry in [rgb, grey] {
            let pixels = drawn(geometry, "one\ntwo");
            assert_eq!(
                recognise(&pixels, geometry),
                ["one         ", "two         ", "            "]
            );
        }
    }

    #[test]
    fn long_lines_wrap_and_the_oldest_scroll_away() {
        let pixels = drawn(GEOMETRY, "first\nsecond\nthe third line\nlast");
        assert_eq!(recognise(&pixels, GEOMETRY), ["the third li", "ne          ", "last        "]);
        // A line that is exactly full does not leave an empty one behind it.
        let pixels = drawn(GEOMETRY, "twelve chars\nnext");
        assert_eq!(recognise(&pixels, GEOMETRY), ["twelve chars", "next        ", "            "]);
    }

    #[test]
    fn control_characters_and_what_the_font_lacks() {
        let pixels = drawn(GEOMETRY, "abc\rX\n1\t2\tz");
        assert_eq!(recognise(&pixels, GEOMETRY), ["Xbc         ", "1       2   ", "z           "]);
        let pixels = drawn(GEOMETRY, "\u{e9}\u{1b}\u{20ac}~");
        assert_eq!(recognise(&pixels, GEOMETRY)[0], "???~        ");
    }

    #[test]
    fn a_framebuffer_that_cannot_be_is_refused() {
        let mut pixels = vec![0; GEOMETRY.bytes().unwrap()];
        let contradictions = [
            Geometry { height: GEOMETRY.height + 1, ..GEOMETRY },
            Geometry { width: GEOMETRY.stride + 1, ..GEOMETRY },
            Geometry { width: CELL_WIDTH - 1, ..GEOMETRY },
            Geometry { height: CELL_HEIGHT - 1, ..GEOMETRY },
            Geometry { bytes_per_pixel: 2, ..GEOMETRY },
            Geometry { bytes_per_pixel: 0, order: PixelOrder::Grey, ..GEOMETRY },
            Geometry { stride: usize::MAX, ..GEOMETRY },
        ];
        for geometry in contradictions {
            assert!(TextScreen::new(&mut pixels, geometry).is_none(), "{geometry:?}");
        }
        assert_eq!(TextScreen::new(&mut pixels, GEOMETRY).unwrap().size(), (COLUMNS, ROWS));
    }

    proptest! {
        #[test]
        fn any_text_can_be_written_and_the_screen_agrees_with_its_cells(text in "[\\PC\n\r\t]{0,200}") {
            let mut pixels = vec![0; GEOMETRY.bytes().unwrap()];
            let mut screen = TextScreen::new(&mut pixels, GEOMETRY).unwrap();
            screen.write_str(&text).unwrap();
            let cells = core::mem::take(&mut screen.cells);
            let shown = recognise(&pixels, GEOMETRY).concat();
            prop_assert_eq!(shown.as_bytes(), cells);
        }
    }
}
