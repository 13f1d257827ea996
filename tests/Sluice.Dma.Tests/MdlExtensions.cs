namespace Sluice.Dma.Tests;

internal static class MdlExtensions
{
    /// <summary>A byte of the buffer, whoever owns it now: only a test looks behind the rules.</summary>
    internal static byte Peek(this Mdl mdl, uint offset)
    {
        Span<byte> one = stackalloc byte[1];
        mdl.Peek(offset, one);
        return one[0];
    }
}
