namespace Sluice.Dma.Tests;

/// <summary>What happens on another thread, and soon.</summary>
internal static class Eventually
{
    internal static void Is(Func<bool> condition) =>
        Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(20)), "it did not come");
}
