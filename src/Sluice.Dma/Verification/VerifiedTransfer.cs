using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// What verification remembers of a mapping from get to put. Belongs to the mapping's record and is used again with it,
/// so that steady traffic allocates nothing.
/// </summary>
internal sealed class VerifiedTransfer
{
    /// <summary>The mapping's number; 0 when nothing is remembered.</summary>
    internal long Number;

    /// <summary>What the driver asked for.</summary>
    internal Transfer Transfer;

    /// <summary>The guarded pages that stand in for the buffer, or null.</summary>
    internal GuardedRun? Guard;

    /// <summary>The elements as they were handed out.</summary>
    internal int Elements;

    /// <summary>When it was mapped, on the platform's clock.</summary>
    internal long MappedAt;

    /// <summary>The buffer's bytes at the get, when nobody may change them before the put.</summary>
    internal ulong? Content;

    private (ulong Chain, ulong Pages) _mdl;

    /// <summary>Remembers how the MDL is.</summary>
    internal void KeepMdl() => _mdl = SignatureOf(Transfer);

    /// <summary>What of the MDL is no longer as it was: 0 nothing, else the case of the rule.</summary>
    internal int ChangeOfMdl()
    {
        (ulong Chain, ulong Pages) now = SignatureOf(Transfer);
        if (now.Chain == _mdl.Chain) { return now.Pages == _mdl.Pages ? 0 : 3; }
        return Transfer.Offset + (ulong)Transfer.Length > Transfer.Mdl!.ChainByteCount ? 1 : 2;
    }

    /// <summary>A hash of the driver's bytes, or null where the processor cannot reach them.</summary>
    internal ulong? HashContent(IPlatform platform)
    {
        ulong hash = 0;
        PageCursor pages = new(Transfer);
        while (pages.Next(out PhysicalAddress page, out uint first, out uint length))
        {
            if (!platform.Memory.TryGetSpan(page + first, (int)length, out Span<byte> bytes))
            {
                return null;
            }
            hash = BufferHash.Add(hash, bytes);
        }
        return hash;
    }

    internal void Clear() =>
        (Number, Transfer, Guard, Content, Elements) = (0, default, null, null, 0);

    // The chain as it is linked, and the frames that this transfer uses. The pins of a chain follow its links, so a
    // link that is added behind the transfer counts as well.
    private static (ulong Chain, ulong Pages) SignatureOf(in Transfer transfer)
    {
        (ulong chain, ulong bytes) = (0, 0);
        for (Mdl? part = transfer.Mdl; part is not null; part = part.Next)
        {
            chain = BufferHash.Step(chain, (uint)RuntimeHelpers.GetHashCode(part));
            chain = BufferHash.Step(chain, ((ulong)part.ByteOffset << 32) | part.ByteCount);
            bytes += part.ByteCount;
        }
        if (transfer.Offset + (ulong)transfer.Length > bytes) { return (chain, 0); }
        ulong frames = 0;
        PageCursor pages = new(transfer);
        while (pages.Next(out PhysicalAddress page, out _, out _)) { frames = BufferHash.Step(frames, page.Value); }
        return (chain, frames);
    }
}
