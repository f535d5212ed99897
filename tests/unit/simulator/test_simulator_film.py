"""The simulator's films are real: playable, of the asked shape and length, made from the inputs given."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import msgspec
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from gateway.simulator import footage, reel
from gateway.simulator.film import Film, UnreadableMedia, probe, render
from gateway.simulator.motion import Performer
from gateway.simulator.reel import encode
from gateway.simulator.samples import SAMPLES, sample_character, sample_performance
from gateway.simulator.stage import Stage

RATIOS = [(1280, 720), (720, 1280), (960, 960), (1104, 832), (832, 1104), (1584, 672)]
GREEN, RED, BLUE = (30, 160, 60), (200, 40, 40), (40, 60, 200)
SMALL = (320, 180)


def near(seen: tuple[int, ...] | float | None, wanted: tuple[int, int, int]) -> bool:
    assert isinstance(seen, tuple)
    return all(abs(a - b) <= 16 for a, b in zip(seen[:3], wanted, strict=True))


def png(color: tuple[int, ...], size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", size, color).save(file, "PNG")
    return file.getvalue()


def sliding(color: tuple[int, int, int], frames: int, slide: int) -> Iterator[Image.Image]:
    """A white box that starts left on a plain ground and moves `slide` pixels a frame."""
    for count in range(frames):
        picture = Image.new("RGB", (160, 90), color)
        ImageDraw.Draw(picture).rectangle((10 + slide * count, 20, 34 + slide * count, 70), fill="white")
        yield picture


@cache
def clip(color: tuple[int, int, int] = RED, seconds: float = 3, fps: float = 12, slide: int = 3) -> bytes:
    rate = Fraction(fps).limit_denominator(1001)
    return encode(sliding(color, round(seconds * fps), slide), width=160, height=90, rate=rate)


def frames_of(film: bytes) -> list[Image.Image]:
    opened = footage.load_clip("film", film)
    return [footage.picture(shot.frame, opened.width, opened.height) for shot in footage.play(opened)]


def small_film(character: bytes, reference: bytes, label: str = "runway job_1") -> bytes:
    return render(character=character, reference=reference, width=SMALL[0], height=SMALL[1], label=label)


def spread(pictures: Iterable[Image.Image], box: tuple[int, int, int, int]) -> float:
    """How far the pictures differ from the first inside the box, at most, in mean grey levels."""
    first, *rest = [picture.crop(box).convert("L") for picture in pictures]
    return max(ImageStat.Stat(ImageChops.difference(first, other)).mean[0] for other in rest)


@pytest.mark.parametrize(("width", "height"), RATIOS)
def test_every_ratio_gives_that_size_in_h264_of_the_references_length(width: int, height: int) -> None:
    film = probe(render(character=png(GREEN), reference=clip(), width=width, height=height, label="x"))
    assert (film.width, film.height, film.codec) == (width, height, "h264")
    assert film.duration_s == pytest.approx(3, abs=0.1)
    assert film.frames == 36


@pytest.mark.parametrize("fps", [5, 10, 24000 / 1001, 25, 30, 60])
def test_any_frame_rate_keeps_its_length_within_a_tenth_of_a_second(fps: float) -> None:
    reference = clip(seconds=3.2, fps=fps, slide=0)
    film = probe(small_film(png(GREEN), reference))
    assert film.duration_s == pytest.approx(probe(reference).duration_s, abs=0.1)
    assert 11.99 <= film.frames / film.duration_s <= 24.01


def test_character_fills_the_middle_and_the_reference_plays_in_the_corner() -> None:
    frame = frames_of(small_film(png(GREEN), clip(BLUE)))[5]
    stage = Stage(width=SMALL[0], height=SMALL[1], reference=(160, 90), label="x")
    left, top = stage.inset_corner
    assert near(frame.getpixel((SMALL[0] // 2, SMALL[1] // 2)), GREEN)
    assert near(frame.getpixel((left + stage.inset_size[0] - 6, top + 6)), BLUE)
    assert near(frame.getpixel((6, SMALL[1] - 6)), GREEN)


def test_the_inset_moves_as_the_reference_does() -> None:
    stage = Stage(width=SMALL[0], height=SMALL[1], reference=(160, 90), label="x")
    left, top = stage.inset_corner
    box = (left, top, left + stage.inset_size[0], top + stage.inset_size[1])
    assert spread(frames_of(small_film(png(GREEN), clip())), box) > 10


def test_character_moves_with_a_moving_reference_and_rests_with_a_still_one() -> None:
    aside = (0, 30, 200, 110)
    assert spread(frames_of(small_film(sample_character(), clip(slide=3))), aside) > 4
    assert spread(frames_of(small_film(sample_character(), clip(slide=0))), aside) < 1


def test_every_frame_is_marked() -> None:
    for frame in frames_of(small_film(png(GREEN), clip())):
        colors = frame.crop((0, 0, SMALL[0] // 2, 14)).getcolors(1 << 16)
        assert colors is not None
        assert sum(count for count, color in colors if near(color, (255, 190, 60))) > 100


def test_labels_and_references_and_characters_each_make_another_film() -> None:
    films = [
        small_film(png(GREEN), clip()),
        small_film(png(GREEN), clip(), "eachlabs job_2"),
        small_film(png(GREEN), clip(BLUE)),
        small_film(png(BLUE), clip()),
    ]
    assert len(set(films)) == len(films)


def test_the_same_inputs_make_the_same_bytes() -> None:
    assert small_film(png(GREEN), clip()) == small_film(png(GREEN), clip())


def test_a_label_of_any_length_and_lines_is_drawn() -> None:
    assert probe(small_film(png(GREEN), clip(), "job\n" * 500)).frames == 36
    assert probe(small_film(png(GREEN), clip(), "")).frames == 36


def test_index_comes_first_so_that_a_browser_can_start_at_once() -> None:
    film = small_film(png(GREEN), clip())
    assert film.index(b"moov") < film.index(b"mdat")


def test_a_video_character_plays_and_starts_over() -> None:
    character = encode(
        [Image.new("RGB", (90, 160), GREEN)] * 12 + [Image.new("RGB", (90, 160), BLUE)] * 12,
        width=90, height=160, rate=Fraction(24),
    )  # fmt: skip
    frames = frames_of(small_film(character, clip()))
    middle = [frame.getpixel((SMALL[0] // 2, SMALL[1] // 2)) for frame in frames]
    assert len(frames) == 36
    for start, color in ((0, GREEN), (6, BLUE), (12, GREEN), (30, BLUE)):
        assert near(middle[start + 2], color)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_images_of_every_kind_are_read(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), GREEN).save(file, kind)
    assert near(frames_of(small_film(file.getvalue(), clip()))[0].getpixel((160, 90)), GREEN)


def test_a_transparent_character_stands_on_a_backdrop() -> None:
    assert near(frames_of(small_film(png((255, 0, 0, 0)), clip()))[0].getpixel((160, 90)), (46, 52, 74))


def test_a_sideways_recording_is_shown_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(path, "w") as container:
        stream = reel._add_stream(container, 160, 90, Fraction(12))
        stream.set_display_rotation(90)
        for frame in reel._frames(sliding(RED, 36, 0), Fraction(12)):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert probe(path) == Film(width=90, height=160, duration_s=3.0, codec="h264", frames=36)
    upright = frames_of(path.read_bytes())[0]
    # A quarter turn against the clock takes the box from the left edge to the bottom.
    assert near(upright.getpixel((45, 138)), (255, 255, 255))
    assert near(upright.getpixel((45, 20)), RED)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"not media at all" * 100,
        png(RED)[:60],
        b"#EXTM3U\n#EXTINF:3,\n/etc/hostname.ts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile clip.mp4\n",
    ],
    ids=["empty", "words", "half a png", "playlist", "concat list"],
)
@pytest.mark.parametrize("which", ["character", "reference"])
def test_garbage_is_refused_by_name(which: str, garbage: bytes) -> None:
    media = {"character": png(GREEN), "reference": clip(), which: garbage}
    with pytest.raises(UnreadableMedia, match=f"^{which}: ") as caught:
        render(**media, width=320, height=180, label="x")
    assert caught.value.which == which


def test_a_damaged_image_is_refused() -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, "PNG")
    with pytest.raises(UnreadableMedia, match=r"^character: the image cannot be decoded"):
        small_film(file.getvalue()[:2000], clip())


def test_a_cut_off_video_is_refused() -> None:
    with pytest.raises(UnreadableMedia, match=r"^reference: "):
        small_film(png(GREEN), clip()[:-2000])


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UnreadableMedia, match=r"^reference: the video's codec is unknown$"):
        small_film(png(GREEN), clip().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))


def test_a_character_video_too_thin_to_fill_the_film_is_refused() -> None:
    thin = encode([Image.new("RGB", (4, 1200))] * 2, width=4, height=1200, rate=Fraction(12))
    with pytest.raises(UnreadableMedia, match=r"^character: 4x1200 is too thin to fill the film$"):
        small_film(thin, clip())


def test_a_picture_is_no_reference() -> None:
    with pytest.raises(UnreadableMedia, match=r"^reference: "):
        small_film(png(GREEN), png(RED))


def test_a_reference_above_35_seconds_is_refused() -> None:
    long = clip(seconds=36, fps=2, slide=0)
    with pytest.raises(UnreadableMedia, match=r"^reference: the video is longer than 35 s$"):
        small_film(png(GREEN), long)


def test_a_length_is_measured_whatever_the_header_claims() -> None:
    lying = msgspec.structs.replace(footage.load_clip("reference", clip()), declared_s=0.0)
    with pytest.raises(UnreadableMedia, match=r"^reference: the video is longer than 2 s$"):
        list(footage.play(lying, limit_s=2))


def test_an_image_above_40_megapixels_is_refused_before_it_is_decoded() -> None:
    for size in ((8000, 5001), (20000, 5000)):
        file = io.BytesIO()
        Image.new("1", size).save(file, "PNG", compress_level=1)
        with pytest.raises(UnreadableMedia, match=r"^character: the picture is above 40 megapixels$"):
            small_film(file.getvalue(), clip())


def test_a_file_above_64_mib_is_refused() -> None:
    with pytest.raises(UnreadableMedia, match=r"^reference: the file is above 64 MiB$"):
        small_film(png(GREEN), bytes(64 * 1024 * 1024 + 1))


def test_more_frames_than_any_performance_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage, "MAX_FRAMES", 20)
    with pytest.raises(UnreadableMedia, match=r"^reference: the video has more than 20 frames$"):
        small_film(png(GREEN), clip())


@pytest.mark.parametrize("size", [(321, 180), (320, 0)])
def test_a_size_that_cannot_be_encoded_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="even sizes"):
        render(character=png(GREEN), reference=clip(), width=size[0], height=size[1], label="x")


def test_performer_leans_towards_where_the_mover_goes() -> None:
    performer = Performer(Fraction(12))
    poses = [performer.follow(picture) for picture in sliding(RED, 24, 4)]
    assert poses[0].lean == poses[0].swell == 0
    assert poses[-1].lean > 0.2
    assert all(abs(pose.lean) <= 1 and abs(pose.bob) <= 1 and 0 <= pose.swell <= 1 for pose in poses)


def test_samples_are_what_their_types_say() -> None:
    assert {path: kind for path, (kind, _) in SAMPLES.items()} == {
        "/character.png": "image/png",
        "/performance.mp4": "video/mp4",
    }
    assert Image.open(io.BytesIO(SAMPLES["/character.png"][1]()), formats=["PNG"]).size == (768, 768)
    assert probe(SAMPLES["/performance.mp4"][1]()) == Film(
        width=640, height=360, duration_s=4.0, codec="h264", frames=96
    )


def test_sample_performance_moves_and_is_as_long_as_asked() -> None:
    performance = sample_performance(3.0)
    assert probe(performance).duration_s == pytest.approx(3, abs=0.05)
    assert spread(frames_of(performance), (0, 0, 640, 360)) > 5
    with pytest.raises(ValueError, match="no frame"):
        sample_performance(0)
