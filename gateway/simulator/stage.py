"""One film's composition: the character large, the reference as an inset, a band that says SIMULATED."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont, ImageOps

from gateway.simulator.motion import Pose

# At rest the character is enlarged this much, which leaves room to move 6 % each way without showing an edge.
_REST_ZOOM = 1.14
_SWELL_ZOOM = 0.06
_REACH = 0.06
_INSET_SHARE = 0.32
_INSET_SHARE_UPRIGHT = 0.45  # of the width of an upright film, where a wide reference would be tiny
_BACKDROP = (46, 52, 74)
_INK = (14, 16, 24)
_AMBER = (255, 190, 60)
_WHITE = (255, 255, 255)
_BAND_OPACITY = 150  # of 255
_LONGEST_LABEL = 200

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Stage:
    """Everything that stays the same from frame to frame, drawn once.

    Attributes:
        width: Of the film, in pixels.
        height: Of the film, in pixels.
        inset_size: The size in pixels to bring the reference's pictures in.
        inset_corner: The inset's top left corner in the film, in pixels.
    """

    def __init__(self, *, width: int, height: int, reference: tuple[int, int], label: str) -> None:
        """Lay out a film of width x height pixels for a reference of that size in pixels, with this label."""
        self.width, self.height = width, height
        self._gap = round(min(width, height) * 0.035)
        self._line = max(2, min(width, height) // 240)
        across = width * (_INSET_SHARE if width >= height else _INSET_SHARE_UPRIGHT)
        scale = min(across / reference[0], height * _INSET_SHARE / reference[1])
        self.inset_size = (max(2, round(reference[0] * scale)), max(2, round(reference[1] * scale)))
        self.inset_corner = (width - self._gap - self.inset_size[0], height - self._gap - self.inset_size[1])
        self._band, self._band_mask = self._draw_band(label)
        self._frame = Image.new("RGB", [side + 2 * self._line for side in self.inset_size], _WHITE)

    def backdrop(self, character: Image.Image, fineness: float) -> Image.Image:
        """Crop a character (RGB or RGBA) from its centre to the film's shape, `fineness` times its size.

        `compose` picks nearest pixels: from twice the film's size that looks as smooth as blending four
        pixels at the film's own, and costs a tenth.
        """
        size = (round(self.width * fineness), round(self.height * fineness))
        cropped = ImageOps.fit(character, size, Image.Resampling.BICUBIC)
        if cropped.mode != "RGBA":
            return cropped
        solid = Image.new("RGB", size, _BACKDROP)
        solid.paste(cropped, mask=cropped)
        return solid

    def compose(self, backdrop: Image.Image, inset: Image.Image, pose: Pose) -> Image.Image:
        """One frame: the backdrop in its pose, `inset` (of inset_size) in the corner, the band on top."""
        stance = tuple(step * backdrop.width / self.width for step in self._stance(pose))
        film = backdrop.transform(
            (self.width, self.height), Image.Transform.AFFINE, stance, Image.Resampling.NEAREST
        )
        left, top = self.inset_corner
        film.paste(self._frame, (left - self._line, top - self._line))
        film.paste(inset, self.inset_corner)
        film.paste(self._band, (0, 0), self._band_mask)
        return film

    def _stance(self, pose: Pose) -> tuple[float, ...]:
        """Pillow's affine: where each pixel comes from; a lean is a shear that keeps the feet still."""
        width, height = self.width, self.height
        shrink = 1 / (_REST_ZOOM + _SWELL_ZOOM * pose.swell)
        lean, bob = pose.lean * _REACH * width, pose.bob * _REACH * height
        return (
            shrink,
            lean / height,
            width * (1 - shrink) / 2 - lean,
            0.0,
            shrink,
            height * (1 - shrink) / 2 + bob,
        )

    def _draw_band(self, label: str) -> tuple[Image.Image, Image.Image]:
        """The band across the top, and how opaque each of its pixels is."""
        width, unit = self.width, min(self.width, self.height)
        tall = round(unit * 0.078)
        font = ImageFont.load_default(size=tall * 0.46)
        band, mask = Image.new("RGB", (width, tall), _INK), Image.new("L", (width, tall), _BAND_OPACITY)
        ink, cover = ImageDraw.Draw(band), ImageDraw.Draw(mask)
        pad = tall // 4
        mark_end = self._gap + font.getlength("SIMULATED") + 2 * pad
        mark = (self._gap, pad * 0.7, mark_end, tall - pad * 0.7)
        for draw, paint in ((ink, _AMBER), (cover, 255)):
            draw.rounded_rectangle(mark, radius=pad, fill=paint)
        ink.text((self._gap + pad, tall / 2), "SIMULATED", font=font, fill=_INK, anchor="lm")
        told, font = _fit(label, tall, width - mark_end - pad * 2 - self._gap)
        for draw, paint in ((ink, _WHITE), (cover, 255)):
            draw.text((mark_end + pad * 2, tall / 2), told, font=font, fill=paint, anchor="lm")
        return band, mask


def _fit(label: str, tall: int, room: float) -> tuple[str, _Font]:
    """The label on one line: set smaller, then cut with an ellipsis, where it would leave the band."""
    line = " ".join(label.split())[:_LONGEST_LABEL]
    font = ImageFont.load_default(size=tall * 0.46)
    if font.getlength(line) > room:
        font = ImageFont.load_default(size=tall * 0.34)
    if font.getlength(line) <= room:
        return line, font
    while line and font.getlength(line + "...") > room:
        line = line[:-1]
    return line + "...", font
