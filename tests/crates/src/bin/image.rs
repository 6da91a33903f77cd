//! Pictures: made pixel by pixel, changed, written in four formats and read again, through trait objects.

use std::io::Cursor;

use image::codecs::gif::{GifDecoder, GifEncoder};
use image::imageops::{self, FilterType};
use image::{AnimationDecoder, DynamicImage, Frame, GenericImageView, ImageFormat, ImageReader, Rgba, RgbaImage};

use crates::source::{Source, hash};

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let (a, b) = (source.below(200), source.below(200) + 1);
    let picture = RgbaImage::from_fn(40, 28, |x, y| {
        let v = u64::from(x * x + y * y) * b / 16 + a;
        Rgba([v as u8, (v / 3) as u8, (x * 6) as u8, 255 - (y * 2) as u8])
    });
    let picture = DynamicImage::ImageRgba8(picture);
    let changed = [
        picture.resize_exact(23, 31, FilterType::Lanczos3),
        picture.blur(1.25).rotate90(),
        picture.huerotate(40).fliph().crop_imm(3, 3, 20, 20),
        DynamicImage::ImageLuma8(imageops::grayscale(&picture.adjust_contrast(12.0))),
    ];
    let mut out = String::new();
    for picture in &changed {
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Jpeg] {
            let mut bytes = Cursor::new(Vec::new());
            let written = match format {
                ImageFormat::Jpeg => picture.to_rgb8().write_to(&mut bytes, format),
                ImageFormat::Gif => picture.to_rgba8().write_to(&mut bytes, format),
                _ => picture.write_to(&mut bytes, format),
            };
            written.unwrap();
            let bytes = bytes.into_inner();
            let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().unwrap();
            assert_eq!(reader.format(), Some(format));
            let back = reader.decode().unwrap();
            assert_eq!(back.dimensions(), picture.dimensions());
            out += &format!("{format:?} {} {:x} {:x}\n", bytes.len(), hash(&bytes), hash(back.as_bytes()));
            let broken =
                image::load_from_memory(&bytes[..bytes.len() / 3]).map(|_| ()).map_err(|error| error.to_string());
            out += &format!("{broken:?}\n");
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 20);
    encoder.encode_frames((0..3).map(|i| Frame::new(picture.rotate180().brighten(i * 20).to_rgba8()))).unwrap();
    drop(encoder);
    let frames = GifDecoder::new(Cursor::new(&bytes)).unwrap().into_frames();
    let sums: Vec<u64> = frames.map(|frame| frame.unwrap().buffer().pixels().map(|p| u64::from(p[0])).sum()).collect();
    format!("{out}{sums:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
