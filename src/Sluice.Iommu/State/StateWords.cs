using System.Buffers.Binary;

namespace Sluice.Iommu;

/// <summary>
/// A unit's state on its way out or in, word by word. Each part of a unit carries its fields once, in one order, for
/// both ways: <c>_status = state.Carry(_status)</c> keeps a field's value when saving and replaces it when restoring.
/// </summary>
/// <remarks>What comes in was checked for its kind and length only: whoever carries a field keeps it in range.</remarks>
internal sealed class StateWords
{
    private readonly List<ulong> _words = [];
    private readonly bool _restores;
    private int _next;

    /// <summary>Nothing yet: the parts will add to it.</summary>
    internal StateWords()
    {
    }

    private StateWords(ReadOnlySpan<byte> bytes)
    {
        _restores = true;
        for (; bytes.Length >= sizeof(ulong); bytes = bytes[sizeof(ulong)..])
        {
            _words.Add(BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        }
    }

    /// <summary>
    /// What was saved, if it has the length of this state and the same first words: those that say which kind of unit,
    /// built how.
    /// </summary>
    /// <param name="bytes">What <see cref="ToBytes"/> gave, or anything.</param>
    /// <param name="headWords">How many words must be the same.</param>
    /// <returns>The words to restore from; null when they are not of such a unit.</returns>
    internal StateWords? Match(ReadOnlySpan<byte> bytes, int headWords)
    {
        byte[] own = ToBytes();
        int head = headWords * sizeof(ulong);
        return bytes.Length == own.Length && bytes[..head].SequenceEqual(own.AsSpan(0, head)) ? new(bytes) : null;
    }

    internal ulong Carry(ulong value)
    {
        if (_restores) { return _words[_next++]; }
        _words.Add(value);
        return value;
    }

    internal uint Carry(uint value) => (uint)Carry((ulong)value);

    internal bool Carry(bool value) => Carry(value ? 1UL : 0) != 0;

    /// <summary>The words, little-endian.</summary>
    internal byte[] ToBytes()
    {
        byte[] bytes = new byte[_words.Count * sizeof(ulong)];
        for (int i = 0; i < _words.Count; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong)), _words[i]);
        }
        return bytes;
    }
}
