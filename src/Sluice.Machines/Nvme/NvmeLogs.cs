using System.Buffers.Binary;

namespace Sluice.Machines.Nvme;

/// <summary>What the controller remembers for Get Log Page: its last errors, and its counters.</summary>
/// <remarks>NVM Express base specification 1.4, 5.14.1.</remarks>
internal sealed class NvmeLogs
{
    public const int ErrorEntries = 4;
    private const int EntryBytes = 64;
    private readonly byte[] _errors = new byte[ErrorEntries * EntryBytes];
    private ulong _errorCount;
    private ulong _blocksRead;
    private ulong _blocksWritten;
    private ulong _reads;
    private ulong _writes;
    private ulong _mediaErrors;

    /// <summary>Counts a read that succeeded, in units of 512 bytes.</summary>
    public void CountRead(ulong units) => (_reads, _blocksRead) = (_reads + 1, _blocksRead + units);

    /// <summary>Counts a write that succeeded, in units of 512 bytes.</summary>
    public void CountWrite(ulong units) => (_writes, _blocksWritten) = (_writes + 1, _blocksWritten + units);

    /// <summary>Notes a command that failed; the newest stands first.</summary>
    public void AddError(ushort queue, ushort command, NvmeStatus status, ulong block, uint namespaceId)
    {
        if ((status & ~NvmeStatus.DoNotRetry) is NvmeStatus.UnrecoveredReadError or NvmeStatus.WriteFault)
        {
            _mediaErrors++;
        }
        _errors.AsSpan(0, _errors.Length - EntryBytes).CopyTo(_errors.AsSpan(EntryBytes));
        Span<byte> entry = _errors.AsSpan(0, EntryBytes);
        entry.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(entry, ++_errorCount);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[8..], queue);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[10..], command);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[12..], (ushort)((uint)status << 1));
        BinaryPrimitives.WriteUInt16LittleEndian(entry[14..], 0xFFFF); // no parameter is named as the cause
        BinaryPrimitives.WriteUInt64LittleEndian(entry[16..], block);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[24..], namespaceId);
    }

    /// <summary>
    /// Writes the log into <paramref name="page"/>; gives its length, or 0 when there is no such log.
    /// </summary>
    public int Write(byte log, Span<byte> page, int temperature, bool tooHot)
    {
        page.Clear();
        switch (log)
        {
            case 1:
                _errors.CopyTo(page);
                return _errors.Length;
            case 2:
                const byte TemperatureWarning = 1 << 1;
                page[0] = tooHot ? TemperatureWarning : (byte)0;
                BinaryPrimitives.WriteUInt16LittleEndian(page[1..], (ushort)temperature);
                (page[3], page[4]) = (100, 10); // spare left and its threshold, in percent
                Counter(page, 32, (_blocksRead + 999) / 1000);
                Counter(page, 48, (_blocksWritten + 999) / 1000);
                Counter(page, 64, _reads);
                Counter(page, 80, _writes);
                Counter(page, 112, 1); // power cycles
                Counter(page, 160, _mediaErrors);
                Counter(page, 176, _errorCount);
                return 512;
            case 3:
                page[0] = 1; // slot 1 is active
                "1.0     "u8.CopyTo(page[8..]);
                return 512;
            default:
                return 0;
        }
    }

    private static void Counter(Span<byte> page, int offset, ulong value) =>
        BinaryPrimitives.WriteUInt64LittleEndian(page[offset..], value);
}
