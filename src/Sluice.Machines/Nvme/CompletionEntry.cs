using System.Runtime.InteropServices;

namespace Sluice.Machines.Nvme;

/// <summary>
/// What the controller posts when a command is done: 16 bytes, stored as two words so that the phase tag comes last.
/// <code>
///  dword 0   the command's result
///        1   reserved
///        2   31:16 submission queue id │ 15:0 submission queue head
///        3   31 do not retry │ 27:25 status type │ 24:17 status code │ 16 phase tag │ 15:0 command id
/// </code>
/// </summary>
/// <remarks>NVM Express base specification 1.4, 4.6.</remarks>
[StructLayout(LayoutKind.Sequential, Size = Bytes)]
internal readonly struct CompletionEntry(ushort queue, ushort head, ushort command, NvmeStatus status, uint result)
{
    public const int Bytes = 16;
    public const int BytesLog2 = 4;

    private readonly ulong _low = result;
    private readonly ulong _high = head | ((ulong)queue << 16) | ((ulong)command << 32) | ((ulong)status << 49);

    public CompletionEntry WithHead(ushort head) => new(_low, (_high & ~0xFFFFUL) | head);

    public CompletionEntry WithPhase(bool phase) => new(_low, (_high & ~(1UL << 48)) | (phase ? 1UL << 48 : 0));

    public void Store(Span<ulong> words) => (words[0], words[1]) = (_low, _high);

    private CompletionEntry(ulong low, ulong high)
        : this(0, 0, 0, 0, 0) => (_low, _high) = (low, high);
}
