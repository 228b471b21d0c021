"""C functions that turn counters stored across words into numbers, one function per size of counter.

Bit i of counter c is bit c of plane i.
"""

from __future__ import annotations

__all__ = ["MERGE", "padded_planes", "unpack_function"]

MERGE = """\
/* Eight planes become eight words of four one-byte counters: word r holds counters r, 8 + r, 16 + r and 24 + r. Each
   step doubles the fields: even positions of two words go to one, odd positions to another. */
#define EVEN(x, y, shift, mask) (((x) & (mask)) | ((y) & (mask)) << (shift))
#define ODD(x, y, shift, mask) (((x) >> (shift) & (mask)) | ((y) & (mask) << (shift)))
static SEPARATE void merge(const uint32_t *p, uint32_t *word)
{
    uint32_t a, b, c, d, i;
    for (i = 0; i < 2; i++) { /* planes 4i to 4i + 3; words of counters 0, 1, 2 and 3 modulo 4 */
        a = EVEN(p[0], p[1], 1, 0x55555555u);
        b = ODD(p[0], p[1], 1, 0x55555555u);
        c = EVEN(p[2], p[3], 1, 0x55555555u);
        d = ODD(p[2], p[3], 1, 0x55555555u);
        word[0] = EVEN(a, c, 2, 0x33333333u);
        word[1] = EVEN(b, d, 2, 0x33333333u);
        word[2] = ODD(a, c, 2, 0x33333333u);
        word[3] = ODD(b, d, 2, 0x33333333u);
        p += 4;
        word += 4;
    }
    word -= 8;
    for (i = 0; i < 4; i++, word++) {
        a = EVEN(word[0], word[4], 4, 0x0f0f0f0fu);
        word[4] = ODD(word[0], word[4], 4, 0x0f0f0f0fu);
        word[0] = a;
    }
}
#undef EVEN
#undef ODD
"""


def padded_planes(bits: int) -> int:
    """Planes of a counter of ``bits`` bits: whole bytes, or one or two planes above one byte."""
    return bits if bits in (9, 10) else (bits + 7) // 8 * 8


def unpack_function(lanes: int, planes: int, scale: int, ctype: str) -> tuple[str, str]:
    """Name and text of ``current[c] = scale * counter c - offset`` for ``lanes`` counters of ``planes`` planes."""
    name = f"unpack{lanes}_{planes}_{scale}_{ctype.removesuffix('_t')}"
    whole = min(planes // 8, 4)  # counters are numbers modulo 2^32
    bytes_of = [f"bytes_{g}[r]" for g in range(whole)]
    if planes in (9, 10):
        single = [f"(p[{8 + i}] >> r & 0x01010101u){_up(i)}" for i in range(planes - 8)]
        bytes_of.append(" | ".join(single))
    lines = [f"uint32_t {', '.join(f'bytes_{g}[8]' for g in range(whole))}, r, v;"]
    lines += [f"merge(p{f' + {8 * g}' if g else ''}, bytes_{g});" for g in range(whole)]
    lines.append("for (r = 0; r < 8u; r++, current++) {")
    lines += [f"    const uint32_t v{g} = {expression};" for g, expression in enumerate(bytes_of)]
    for q in range(lanes // 8):
        fields = " | ".join(f"(v{g}{_down(8 * q)} & 0xffu){_up(8 * g)}" for g in range(len(bytes_of)))
        lines.append(f"    v = {f'({fields}) * {scale}u' if scale > 1 else fields};")
        lines.append(f"    current[{8 * q}] = ({ctype})signed32(v - offset);")
    lines.append("}")
    head = f"static SEPARATE void {name}(const uint32_t *p, uint32_t offset, {ctype} *current)"
    return name, "\n".join([head, "{", *(f"    {line}" for line in lines), "}\n"])


def _down(shift: int) -> str:
    return f" >> {shift}" if shift else ""


def _up(shift: int) -> str:
    return f" << {shift}" if shift else ""
