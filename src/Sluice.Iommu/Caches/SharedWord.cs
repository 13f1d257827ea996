using System.Runtime.InteropServices;

namespace Sluice.Iommu;

/// <summary>
/// A number that fills and invalidations write, on a cache line of its own: lookups, which read what lies beside it
/// otherwise, must not lose their line to every write.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 192)]
internal sealed class SharedWord
{
    /// <summary>The number; read and written through Volatile or Interlocked.</summary>
    [FieldOffset(64)] internal long Value;
}
