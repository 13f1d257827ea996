using System.Runtime.InteropServices;

namespace Sluice.Machines.Nvme;

/// <summary>
/// A command as the controller fetched it: 64 bytes.
/// <code>
///  dword  0   31:16 command id │ 15:14 PSDT │ 9:8 fused │ 7:0 opcode
///         1   namespace id
///       2–3   reserved                4–5  metadata pointer
///       6–7   PRP1                    8–9  PRP2
///     10–15   the command's own
/// </code>
/// </summary>
/// <remarks>NVM Express base specification 1.4, figure 104.</remarks>
[StructLayout(LayoutKind.Explicit, Size = Bytes)]
internal readonly struct SubmissionEntry
{
    public const int Bytes = 64;
    public const int BytesLog2 = 6;

    [FieldOffset(0)] private readonly uint _dword0;
    [FieldOffset(4)] public readonly uint Namespace;
    [FieldOffset(24)] public readonly ulong Prp1;
    [FieldOffset(32)] public readonly ulong Prp2;
    [FieldOffset(40)] public readonly uint Dword10;
    [FieldOffset(44)] public readonly uint Dword11;
    [FieldOffset(48)] public readonly uint Dword12;
    [FieldOffset(52)] public readonly uint Dword13;

    public byte Opcode => (byte)_dword0;
    public ushort CommandId => (ushort)(_dword0 >> 16);

    /// <summary>Fused pairs and scatter/gather descriptors are not supported; both fields must then be zero.</summary>
    public bool UsesUnsupportedForm => (_dword0 & 0xC300) != 0;

    /// <summary>Dwords 10 and 11 as one: the first block of a read or write.</summary>
    public ulong StartBlock => Dword10 | ((ulong)Dword11 << 32);

    /// <summary>The low half of dword 12, which counts from zero, as a count.</summary>
    public uint BlockCount => (Dword12 & 0xFFFF) + 1;
}
