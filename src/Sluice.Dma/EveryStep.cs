using System.Runtime.ExceptionServices;

namespace Sluice.Dma;

/// <summary>What must happen to its end, whatever goes wrong on the way.</summary>
internal static class EveryStep
{
    /// <summary>Does all of it, in order. What the first that failed threw comes out at the end.</summary>
    internal static void Of(params ReadOnlySpan<Action> steps) => ForEach(steps, static step => step());

    /// <summary>The same step for all, in order. What the first that failed threw comes out at the end.</summary>
    internal static void ForEach<T>(ReadOnlySpan<T> items, Action<T> step)
    {
        Exception? thrown = null;
        foreach (T item in items)
        {
            try { step(item); }
            catch (Exception e) { thrown ??= e; }
        }
        if (thrown is not null) { ExceptionDispatchInfo.Throw(thrown); }
    }
}
