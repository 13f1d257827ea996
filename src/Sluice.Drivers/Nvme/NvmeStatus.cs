namespace Sluice.Drivers.Nvme;

/// <summary>
/// A controller's answer: the status field of a completion entry without its phase tag.
/// <code>
///  14: do not retry │ 13: more │ 12:11 retry delay │ 10:8 type │ 7:0 code
/// </code>
/// </summary>
/// <remarks>NVM Express base specification 1.4, figures 126 to 131.</remarks>
/// <param name="Word">Bits 14:0.</param>
public readonly record struct NvmeStatus(ushort Word)
{
    /// <summary>Whether the command was done.</summary>
    public bool IsSuccess => (Word & 0x7FF) == 0;

    /// <summary>0 generic, 1 of this command, 2 of the medium, 7 vendor's.</summary>
    public int Type => (Word >> 8) & 7;

    /// <summary>The code inside its type.</summary>
    public byte Code => (byte)Word;

    /// <summary>Whether the controller says that the same command would fail again.</summary>
    public bool DoNotRetry => (Word & 0x4000) != 0;

    /// <summary>In words, as <c>data transfer error (type 0, code 0x04)</c>.</summary>
    public override string ToString() =>
        $"{Describe((Type << 8) | Code)} (type {Type}, code 0x{Code:X2}{(DoNotRetry ? ", do not retry" : "")})";

    private static string Describe(int status) => status switch
    {
        0x000 => "success",
        0x001 => "invalid opcode",
        0x002 => "invalid field in command",
        0x003 => "command id conflict",
        0x004 => "data transfer error",
        0x005 => "aborted by power loss",
        0x006 => "internal error",
        0x007 => "abort requested",
        0x008 => "aborted: submission queue deleted",
        0x00B => "invalid namespace or format",
        0x00C => "command sequence error",
        0x013 => "invalid PRP offset",
        0x015 => "operation denied",
        0x020 => "namespace is write protected",
        0x080 => "block out of range",
        0x081 => "capacity exceeded",
        0x082 => "namespace not ready",
        0x100 => "completion queue invalid",
        0x101 => "invalid queue identifier",
        0x102 => "invalid queue size",
        0x103 => "abort limit exceeded",
        0x105 => "async event limit exceeded",
        0x108 => "invalid interrupt vector",
        0x109 => "invalid log page",
        0x10C => "invalid queue deletion",
        0x10D => "feature not saveable",
        0x10E => "feature not changeable",
        0x10F => "feature not namespace specific",
        0x280 => "write fault",
        0x281 => "unrecovered read error",
        0x285 => "compare failure",
        0x286 => "access denied",
        0x287 => "deallocated or unwritten block",
        _ => "unknown status",
    };
}
