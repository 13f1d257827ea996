namespace Sluice.Dma;

/// <summary>
/// The map registers of one grant, for drivers that load, flush and free them by hand. One run for each load, found by
/// its buffer; no limit, so the last register is watched as the first.
/// </summary>
/// <remarks>
/// For one driver at a time, as the grant itself. Notes what is broken and changes nothing; the caller concludes.
/// </remarks>
internal sealed class VerifiedRegisters(AdapterVerifier verifier, int count)
{
    private const int PageLog2 = 12;
    private readonly Dictionary<Mdl, List<Run>> _runs = [];

    // The page that the last load ended in shares its register with a load that goes on from there. Pages are counted
    // in their own part of a chain.
    private (Mdl? Part, ulong Page) _lastPage;

    private readonly record struct Run(ulong First, ulong Last, DmaDirection Direction, int Pages);

    /// <summary>Registers that are loaded.</summary>
    internal int Used { get; private set; }

    /// <summary>Loads that were not flushed.</summary>
    internal int Unflushed { get; private set; }

    /// <summary>Bytes of a buffer are loaded. Notes 21, 1B, 24, 1D, 00.2.</summary>
    /// <param name="mdl">The buffer.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="direction">Which way the data goes.</param>
    /// <param name="site">The driver's call.</param>
    /// <returns>Whether it is remembered until its flush.</returns>
    internal bool OnMap(Mdl mdl, ulong offset, uint length, DmaDirection direction, in CallSite site)
    {
        ulong bytes = mdl.ChainByteCount;
        if (length == 0)
        {
            verifier.Note(VerificationRule.ZeroLength, 0, "no bytes are loaded", site);
            return false;
        }
        if (offset >= bytes || offset + length > bytes)
        {
            bool outside = offset >= bytes;
            verifier.Note(outside ? VerificationRule.OutsideMdl : VerificationRule.BufferTooShort, 0,
                $"{length} bytes from byte {offset} are loaded of a buffer of {bytes}", site);
            return false;
        }
        if (!_runs.TryGetValue(mdl, out List<Run>? runs)) { _runs.Add(mdl, runs = []); }
        Run run = new(offset, offset + length - 1, direction, 0);
        int at = IndexOf(runs, run.First);
        if ((at < runs.Count && runs[at].First <= run.Last) || (at > 0 && runs[at - 1].Last >= run.First))
        {
            // What a device writes was noted when the transfer was mapped.
            if (direction == DmaDirection.ToDevice)
            {
                verifier.Note(VerificationRule.AlreadyMapped, 1,
                    $"bytes {run.First} to {run.Last} of the buffer are loaded already and not flushed", site);
            }
            return false;
        }
        run = run with { Pages = Load(mdl, offset, length) };
        runs.Insert(at, run);
        Unflushed++;
        Used += run.Pages;
        if (Used > count)
        {
            verifier.Note(VerificationRule.MapRegisterFile, 2,
                $"{Used} map registers are loaded, and {count} were granted", site);
        }
        return true;
    }

    /// <summary>What <see cref="OnMap"/> remembered came to nothing.</summary>
    /// <param name="mdl">The buffer.</param>
    /// <param name="offset">The first byte, as it was loaded.</param>
    internal void Undo(Mdl mdl, ulong offset)
    {
        if (!_runs.TryGetValue(mdl, out List<Run>? runs)) { return; }
        int at = IndexOf(runs, offset);
        if (at == runs.Count || runs[at].First != offset) { return; }
        Used -= runs[at].Pages;
        runs.RemoveAt(at);
        Unflushed--;
        _lastPage = default;
    }

    /// <summary>Bytes of a buffer are flushed: whole loads, one or several. Notes 16, 20, 00.1, 43, 47.</summary>
    /// <param name="mdl">The buffer.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="direction">Which way the driver says the data went.</param>
    /// <param name="site">The driver's call.</param>
    /// <returns>Whether these are loads that are not flushed yet: they are now.</returns>
    internal bool OnFlush(Mdl mdl, ulong offset, uint length, DmaDirection direction, in CallSite site)
    {
        if (!_runs.TryGetValue(mdl, out List<Run>? runs) || runs.Count == 0)
        {
            verifier.Note(VerificationRule.FlushOfUnmappedBuffer, 0,
                $"{length} bytes of a buffer are flushed, and none of it is mapped", site);
            return false;
        }
        ulong last = offset + Math.Max(length, 1) - 1;
        int from = IndexOf(runs, offset);
        bool inside = from > 0 && runs[from - 1].Last >= offset;
        if (!inside && (from == runs.Count || runs[from].First > offset))
        {
            verifier.Note(VerificationRule.FlushOfUnusedRegister, 0,
                $"byte {offset} of a buffer is flushed, and its map register was never loaded", site);
            return false;
        }
        int to = inside ? from - 1 : from;
        ulong next = offset;
        bool otherWay = false;
        while (to < runs.Count && runs[to].First <= next && next <= last)
        {
            otherWay |= runs[to].Direction != direction;
            next = runs[to++].Last + 1;
        }
        (VerificationRule rule, int subCode, string line)? broken = next <= last
            ? (VerificationRule.MapRegisterFile, 1,
                $"bytes {offset} to {last} are flushed, and bytes up to {next - 1} are loaded")
            : inside || next != last + 1
            ? (VerificationRule.LengthDiffers, 0, $"bytes {offset} to {last} are flushed, and are part of a load only")
            : otherWay ? (VerificationRule.DirectionDiffers, 0, $"flushed for {direction}, and loaded otherwise")
            : null;
        if (broken is { } note)
        {
            verifier.Note(note.rule, note.subCode, note.line, site);
            return false;
        }
        runs.RemoveRange(from, to - from);
        Unflushed -= to - from;
        // What is flushed may be loaded anew.
        if (Unflushed == 0) { (Used, _lastPage) = (0, default); }
        return true;
    }

    /// <summary>The transfer is over, or the next begins. Notes 0D.</summary>
    internal void OnEnd(in CallSite site)
    {
        if (Unflushed == 0) { return; }
        verifier.Note(VerificationRule.NotFlushed, 0, $"{Unflushed} loads were not flushed", site);
    }

    /// <summary>The registers are freed. Notes 10.</summary>
    internal void OnFree(in CallSite site)
    {
        if (Unflushed == 0) { return; }
        verifier.Note(VerificationRule.MapRegistersFreedWhileMapped, 0,
            $"{count} map registers are freed and {Unflushed} loads through them were not flushed", site);
    }

    // The registers that bytes take, part by part of a chain: those that the load before does not hold already.
    private int Load(Mdl mdl, ulong offset, uint length)
    {
        int pages = 0;
        for (MdlCursor cursor = new(mdl, offset, length); cursor.NextPiece(out Mdl part, out uint at, out uint here);)
        {
            ulong start = ((ulong)part.ByteOffset + at) >> PageLog2;
            ulong end = ((ulong)part.ByteOffset + at + here - 1) >> PageLog2;
            pages += (int)(end - start) + (_lastPage == (part, start) ? 0 : 1);
            _lastPage = (part, end);
        }
        return pages;
    }

    // The first run that begins at or after a byte.
    private static int IndexOf(List<Run> runs, ulong first)
    {
        (int low, int high) = (0, runs.Count);
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (runs[middle].First < first) { low = middle + 1; }
            else { high = middle; }
        }
        return low;
    }
}
