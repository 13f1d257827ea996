using System.Text;

namespace Sluice.Machines.Qtest;

/// <summary>
/// One command line, as QEMU cuts it: words end at every single space, so that two spaces enclose an empty word. Words
/// too many are left alone. Its methods throw <see cref="FormatException"/> where QEMU ends with an assertion.
/// </summary>
/// <param name="text">The line without its end.</param>
internal readonly ref struct QtestLine(ReadOnlySpan<byte> text)
{
    private readonly ReadOnlySpan<byte> _text = text;

    /// <summary>An empty line or a comment: neither is answered.</summary>
    public bool IsSilent => _text.IsEmpty || _text[0] == (byte)'#';

    /// <summary>The first word; may be empty.</summary>
    public ReadOnlySpan<byte> Verb => TryWord(0, out ReadOnlySpan<byte> verb) ? verb : default;

    /// <summary>Whether there is a word of this number, the verb being number 0.</summary>
    public bool Has(int index) => TryWord(index, out _);

    /// <summary>A word that must be there; may be empty.</summary>
    public ReadOnlySpan<byte> Word(int index) => TryWord(index, out ReadOnlySpan<byte> word)
        ? word
        : throw new FormatException($"argument {index} is missing");

    /// <summary>A word as C's <c>strtoull</c> reads it with base 0: negative numbers count down from 2^64.</summary>
    public ulong Unsigned(int index)
    {
        ReadOnlySpan<byte> word = Word(index);
        if (!TryParse(word, out ulong magnitude, out bool isNegative)) { throw NoNumber(word); }
        return isNegative ? 0 - magnitude : magnitude;
    }

    /// <summary>A word as C's <c>strtoll</c> reads it with base 0.</summary>
    public long Signed(int index)
    {
        ReadOnlySpan<byte> word = Word(index);
        const ulong Most = 1UL << 63;
        if (!TryParse(word, out ulong magnitude, out bool isNegative)
            || magnitude > (isNegative ? Most : Most - 1))
        {
            throw NoNumber(word);
        }
        return (long)(isNegative ? 0 - magnitude : magnitude);
    }

    /// <summary>
    /// White space, a sign, then hexadecimal digits after 0x, binary ones after 0b, octal ones after 0, else decimal
    /// ones; nothing after them, and at most 64 bits.
    /// </summary>
    private static bool TryParse(ReadOnlySpan<byte> word, out ulong magnitude, out bool isNegative)
    {
        word = word.TrimStart("\t\v\f\r"u8);
        isNegative = word.StartsWith("-"u8);
        if (isNegative || word.StartsWith("+"u8)) { word = word[1..]; }
        (int numberBase, int prefix) = word is [(byte)'0', var second, ..]
            ? (second | 0x20) switch { 'x' => (16, 2), 'b' => (2, 2), _ => (8, 1) }
            : (10, 0);
        magnitude = 0;
        ReadOnlySpan<byte> digits = word[prefix..];
        foreach (byte digit in digits)
        {
            int value = Nibble(digit);
            if (value < 0 || value >= numberBase) { return false; }
            UInt128 next = (UInt128)magnitude * (uint)numberBase + (uint)value;
            if (next > ulong.MaxValue) { return false; }
            magnitude = (ulong)next;
        }
        return !digits.IsEmpty;
    }

    /// <summary>A hexadecimal digit's value; −1 for what is none.</summary>
    public static int Nibble(byte digit) => digit switch
    {
        >= (byte)'0' and <= (byte)'9' => digit - '0',
        >= (byte)'a' and <= (byte)'f' => digit - 'a' + 10,
        >= (byte)'A' and <= (byte)'F' => digit - 'A' + 10,
        _ => -1,
    };

    /// <summary>
    /// The bytes of a <c>write</c>: two digits each after the word's first two characters, whatever those are. What is
    /// no digit sets all bits from its own up; what is missing is zero, what is too much is left.
    /// </summary>
    public static byte[] FromHex(ReadOnlySpan<byte> word, int size)
    {
        byte[] bytes = new byte[size];
        ReadOnlySpan<byte> digits = word[2..];
        for (int i = 0; i < size && 2 * i + 1 < digits.Length; i++)
        {
            bytes[i] = (byte)((Nibble(digits[2 * i]) << 4) | Nibble(digits[2 * i + 1]));
        }
        return bytes;
    }

    /// <summary>
    /// The bytes of a <c>b64write</c>, at most <paramref name="most"/>. Characters outside the alphabet are passed
    /// over; of every four others come three bytes, one less for a fill character in the last place and for one in the
    /// last but one; fewer than four at the end give nothing.
    /// </summary>
    public static ReadOnlySpan<byte> FromBase64(ReadOnlySpan<byte> word, int most)
    {
        byte[] bytes = new byte[Math.Min((long)most + 2, word.Length / 4 * 3L)];
        uint group = 0;
        int inGroup = 0, written = 0;
        byte before = 0;
        foreach (byte character in word)
        {
            int value = Sextet(character);
            if (value < 0) { continue; }
            group = (group << 6) | (uint)value;
            if (++inGroup < 4)
            {
                before = character;
                continue;
            }
            if (written >= most) { break; }
            inGroup = 0;
            bytes[written++] = (byte)(group >> 16);
            if (before != (byte)'=') { bytes[written++] = (byte)(group >> 8); }
            if (character != (byte)'=') { bytes[written++] = (byte)group; }
        }
        return bytes.AsSpan(0, Math.Min(written, most));
    }

    private static int Sextet(byte character) => character switch
    {
        >= (byte)'A' and <= (byte)'Z' => character - 'A',
        >= (byte)'a' and <= (byte)'z' => character - 'a' + 26,
        >= (byte)'0' and <= (byte)'9' => character - '0' + 52,
        (byte)'+' => 62,
        (byte)'/' => 63,
        (byte)'=' => 0,
        _ => -1,
    };

    private static FormatException NoNumber(ReadOnlySpan<byte> word) =>
        new($"'{Encoding.Latin1.GetString(word[..Math.Min(word.Length, 32)])}' is no number");

    private bool TryWord(int index, out ReadOnlySpan<byte> word)
    {
        word = _text;
        for (; index > 0; index--)
        {
            int space = word.IndexOf((byte)' ');
            if (space < 0) { return false; }
            word = word[(space + 1)..];
        }
        int end = word.IndexOf((byte)' ');
        if (end >= 0) { word = word[..end]; }
        return true;
    }
}
