namespace Sluice.Drivers.Nvme;

/// <summary>
/// A command as the driver writes it into a submission queue: eight 64-bit words.
/// <code>
///  word 0   63:32 namespace │ 31:16 command id │ 7:0 opcode
///       3   PRP1
///       4   PRP2
///       5   dwords 10 and 11
///       6   dwords 12 and 13
/// </code>
/// </summary>
/// <remarks>NVM Express base specification 1.4, figure 104.</remarks>
internal readonly record struct NvmeCommand(byte Opcode, uint Namespace)
{
    public const int Bytes = 64;
    public const int CompletionBytes = 16;

    public const byte Flush = 0x00, Write = 0x01, Read = 0x02, DatasetManagement = 0x09;

    public const byte DeleteSubmissionQueue = 0x00, CreateSubmissionQueue = 0x01, GetLogPage = 0x02,
        DeleteCompletionQueue = 0x04, CreateCompletionQueue = 0x05, Identify = 0x06, Abort = 0x08,
        SetFeatures = 0x09, AsyncEventRequest = 0x0C;

    public LogicalAddress Prp1 { get; init; }

    public LogicalAddress Prp2 { get; init; }

    public uint Dword10 { get; init; }

    public uint Dword11 { get; init; }

    public uint Dword12 { get; init; }

    /// <summary>Dwords 10 and 11 of a read or write.</summary>
    public ulong StartBlock
    {
        init => (Dword10, Dword11) = ((uint)value, (uint)(value >> 32));
    }

    public void Store(Span<ulong> words, int commandId)
    {
        words[7] = 0;
        words[6] = Dword12;
        words[5] = Dword10 | ((ulong)Dword11 << 32);
        words[4] = Prp2.Value;
        words[3] = Prp1.Value;
        words[2] = 0;
        words[1] = 0;
        words[0] = Opcode | ((ulong)(uint)commandId << 16) | ((ulong)Namespace << 32);
    }

    public static string NameOf(byte opcode) => opcode switch
    {
        Flush => "flush",
        Write => "write",
        Read => "read",
        DatasetManagement => "deallocate",
        _ => $"command 0x{opcode:X2}",
    };
}

/// <summary>The second word of a completion entry, which tells all but the result; read in one access.</summary>
internal readonly record struct NvmeCompletion(ulong Word)
{
    public ushort CommandId => (ushort)(Word >> 32);

    public bool Phase => ((Word >> 48) & 1) != 0;

    public NvmeStatus Status => new((ushort)(Word >> 49));
}
