namespace Sluice.Machines;

/// <summary>
/// A tiny seeded generator whose sequence never changes between .NET versions: the same seed replays for ever.
/// </summary>
/// <remarks>SplitMix64 (Steele, Lea, Flood 2014). A mutable struct: keep it in a field.</remarks>
internal struct SplitMix(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        _state += 0x9E37_79B9_7F4A_7C15;
        return Mix(_state);
    }

    /// <summary>A number below <paramref name="limit"/>, which is not zero.</summary>
    public int Below(int limit) => (int)Math.BigMul(Next(), (ulong)limit, out _);

    public static ulong Mix(ulong x)
    {
        x = (x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9;
        x = (x ^ (x >> 27)) * 0x94D0_49BB_1331_11EB;
        return x ^ (x >> 31);
    }
}
