-- Student, classroom or system, in words, with the numbers.
with worded as (
    select
        *,
        format('{:g} %', round(100 * tau, 6)) as threshold,
        format('{:.3f}', least(floor(1000 * p_above) / 1000, 0.999)) as p_class,
        format('{:.3f}', least(floor(1000 * p_grade_above) / 1000, 0.999)) as p_grade,
        format('{:.3f}', least(floor(1000 * p_above_peers) / 1000, 0.999)) as p_peers,
        if(in_need = 1, 'is', 'are') as verb,
        level in ('CLASSROOM', 'CLASSROOM_OR_SYSTEM', 'SYSTEM', 'SYSTEM+CLASSROOM') as is_about_classes,
        case
            when regexp_full_match(need_cut, 'PR<[0-9]+') then
                'below the ' || need_cut[4:]
                || case
                    when regexp_matches(need_cut, '1[0-9]$') then 'th'
                    when need_cut like '%1' then 'st'
                    when need_cut like '%2' then 'nd'
                    when need_cut like '%3' then 'rd'
                    else 'th'
                end
                || ' percentile'
            when need_cut like 'PR<%' then 'below percentile ' || need_cut[4:]
            when need_cut like 'score<%' then 'below a score of ' || need_cut[7:]
            when need_cut is null then 'in need by the cut rule'
            else 'in need by the vendor''s own label'
        end as below,
        if(
            attention = 'act',
            '. Recommended action: strengthen whole-class instruction',
            ': look at whole-class instruction'
        ) as ask
    from projections.class_decision
    left join (
        select
            district_id,
            school_year,
            benchmark_window,
            measure,
            class_id,
            matched,
            observed,
            expected,
            ratio,
            p_at_least,
            growth_excess
        from projections.class_growth
    )
        using (district_id, school_year, benchmark_window, measure, class_id)
)

select
    district_id,
    school_year,
    benchmark_window,
    measure,
    school_id,
    class_id,
    class_label,
    grade,
    section_type,
    level,
    case
        when enrolled = 0 then 'No member of this class counts on the reference date.'
        when tested = 0 then format('None of {} enrolled students has a result.', enrolled)
        else
            format(
                '{} of {} tested students ({:.1f} %, interval {:.1f}-{:.1f} %) {} {}; {} of {} enrolled were tested ({:.1f} %).',
                in_need, tested, 100 * need_share, 100 * interval_low, 100 * interval_high, verb, below,
                tested, enrolled, 100 * coverage
            )
    end
    || ' '
    || case reason
        when 'blocking_check_failed' then
            'A quality check of the school''s data failed: mend the data first.'
        when 'grade_coverage_low' then
            format('In the whole grade {:.1f} % were tested, too few to say: test the others first.', 100 * grade_coverage)
        when 'many_classes_coverage_low' then
            'Too many classes of this grade lack results to say: test the others first.'
        when 'nobody_enrolled' then
            'There is nothing to judge.'
        when 'class_coverage_low' then
            format(
                'Too few of the class were tested to say: with the others the share lies between {:.1f} and {:.1f} %.',
                100 * bound_low, 100 * bound_high
            )
        when 'few_tested' then
            'Too few students for a rule about a whole class: look at each student.'
        when 'grade_and_class_above' then
            format(
                'In the whole grade {} of {} are (probability that its rate is above {}: {}), and this class stands above'
                || ' its grade (probability {}){} across the grade, and in this class.',
                grade_in_need, grade_tested, threshold, p_grade, p_peers, ask
            )
        when 'grade_above' then
            format(
                'In the whole grade {} of {} are (probability that its rate is above {}: {}){} across the grade'
                || ' before any one class.',
                grade_in_need, grade_tested, threshold, p_grade, ask
            )
        when 'only_class_of_grade' then
            format(
                'The probability that the rate is above {} is {}{}.'
                || ' This is the only class of its grade, so class, grade and school cannot be told apart.',
                threshold, p_class, ask
            )
        when 'class_above' then
            format(
                'The probability that the rate is above {} is {}; in the whole grade {} of {} are{} in this class.',
                threshold, p_class, grade_in_need, grade_tested, ask
            )
        when 'nobody_in_need' then
            'Nobody is in need by this measure.'
        when 'probably_above' then
            format(
                'The probability that the rate is above {} is {}, not enough to say it is the class: look again at the next window.',
                threshold, p_class
            )
        when 'not_above' then
            format('The probability that the rate is above {} is {}: look at each student.', threshold, p_class)
        when 'section_not_regular' then
            format(
                'This is a {} section, judged alone and never against regular classes'
                || ' (probability that the rate is above {}: {}): look at each student.',
                section_type, threshold, p_class
            )
    end as reason,
    ltrim(if(
        tested > 0,
        format(
            'In need ({}): {}; recommended Tier 2-3 ({}): {}.',
            coalesce(need_cut, 'cut rule'), in_need, coalesce(recommended_cut, 'cut rule'), recommended
        ),
        ''
    )
    || if(
        tested > 0 and is_norm_adjusted,
        format(' {} is the share of an average class below this cut (norm_adjusted).', threshold),
        ''
    )
    || case
        when reason <> 'few_tested' or pooled_level is null then ''
        when pooled_level = 'WATCH' then format(' Its grade, or its school where that is small too, is probably above {}.', threshold)
        when pooled_level = 'STUDENT' then format(' Its grade, or its school where that is small too, is probably not above {}.', threshold)
        else ' Nobody in its grade, or in its school where that is small too, is in need.'
    end
    || if(
        is_about_classes and severity = 'classwide_severe',
        ' More than half of the class, or its median student, is in need: support for the whole class comes first.',
        ''
    )
    || case
        when growth_excess = 'more' then
            format(
                ' From their fall levels {:.1f} of {} students were to be expected in need, and {} are: more than chance explains.',
                expected, matched, observed
            )
        when growth_excess = 'fewer' then
            format(
                ' From their fall levels {:.1f} of {} students were to be expected in need, and {} are: fewer than chance explains.',
                expected, matched, observed
            )
        when is_about_classes and growth_excess = 'as_expected' then
            format(
                ' From their fall levels {:.1f} of {} students were to be expected in need, and {} are: no clear difference.',
                expected, matched, observed
            )
        when is_about_classes and matched is not null and growth_excess is null then
            ' Whether the need came with the students cannot be told: too few can be compared from fall.'
        else ''
    end
    || case
        when attention = 'act' and is_persistent then ' It was so in the window before as well.'
        when attention = 'look' then ' One finding is a reason to look, not yet to act.'
        else ''
    end
    || case
        when not is_about_classes then ''
        when is_concordant then ' Another measure says the same.'
        when is_flagged and not is_concordant then ' Another measure does not say so.'
        else ''
    end
    || if(is_about_classes and is_grade_persistent, ' The grade was so in two of three years.', '')
    || case
        when not is_about_classes then ''
        when topic_breadth = 'one' then format(' One topic stands out ({}): look at how this topic was taught.', topics)
        when topic_breadth = 'several' then format(' Several topics stand out ({}).', topics)
        when topic_breadth = 'most' then format(' Most topics stand out ({}): look at the core.', topics)
        when topic_breadth = 'none' then ' No topic stands out.'
        else ''
    end
    || if(
        is_about_classes and is_district_wide,
        ' In most schools of the district the grade is so: first check the cut and the curriculum.',
        ''
    )
    || if(
        tested > 0 and benchmark_window = 'fall',
        ' Fall results describe who arrived, not this year''s instruction.',
        ''
    )) as context,
    reason as reason_code,
    enrolled,
    tested,
    mobile,
    coverage,
    in_need,
    recommended,
    need_share,
    need_cut,
    recommended_cut,
    guidance_band,
    interval_low,
    interval_high,
    is_evaluable,
    prior,
    prior_from,
    prior_mean,
    prior_strength,
    school_strength,
    reliability,
    posterior_mean,
    p_above,
    p_above_if_all_tested,
    expected_in_need,
    p_above_with_error,
    is_flagged,
    is_participation_low,
    class_median_below,
    severity,
    pooled_level,
    bound_low,
    bound_high,
    bound_verdict,
    tau,
    is_norm_adjusted,
    grade_tested,
    grade_in_need,
    p_grade_above,
    grade_coverage,
    p_above_peers,
    p_excess,
    p_district_above,
    is_district_wide,
    is_entering_need,
    matched,
    observed,
    expected,
    ratio,
    p_at_least,
    growth_excess,
    is_persistent,
    is_grade_persistent,
    is_concordant,
    attention,
    topic_breadth,
    topics
from worded
order by district_id, school_year, benchmark_window, measure, school_id, grade, class_id
